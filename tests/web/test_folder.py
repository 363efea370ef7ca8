"""The page's folder: complete, replaced as a whole, and never in the place of something else."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from fd_keras.errors import ProgramError
from fd_keras.web import folder, icons

RUNTIME = {"core.js": b"runtime", "wasm/a.wasm": b"\0asm"}


def kept(content: dict[str, bytes]) -> dict:
    return json.loads(content["service_worker.js"].decode().partition("= ")[2].partition(";\n")[0])


def test_the_service_worker_caches_all_files_except_builds_of_the_runtime(models):
    content = folder.contents(models, RUNTIME)
    assert set(kept(content)["files"]) == content.keys() - {"runtime/wasm/a.wasm", "service_worker.js"}
    assert {f"icon-{side}.png" for side in icons.SIZES} | {model.address for model in models} <= content.keys()


def test_any_change_gives_a_new_version(models):
    versions = {kept(folder.contents(models, RUNTIME))["version"]}
    versions.add(kept(folder.contents(models[:1], RUNTIME))["version"])
    versions.add(kept(folder.contents(models, RUNTIME | {"wasm/a.wasm": b"other"}))["version"])
    assert len(versions) == 3


def test_an_older_page_is_replaced_as_a_whole(models, tmp_path):
    folder.write(str(tmp_path / "page"), models, RUNTIME)
    written = folder.write(str(tmp_path / "page"), models[:1], RUNTIME)
    found = {str(path.relative_to(tmp_path / "page")) for path in (tmp_path / "page").rglob("*") if path.is_file()}
    assert found == set(written)
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


def test_other_files_are_not_replaced(models, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ProgramError, match="contains files that are not a camera page"):
        folder.write(str(tmp_path), models, RUNTIME)
    with pytest.raises(ProgramError, match="not a folder"):
        folder.write(str(tmp_path / "thesis.txt"), models, RUNTIME)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


class _Elements(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_the_policy_allows_the_page_s_own_files_and_one_inline_map():
    text = (folder.APP / "index.html").read_text("utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    (inline,) = re.findall(r'<script type="importmap">(.*?)</script>', text)
    digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
    assert f"script-src 'self' 'wasm-unsafe-eval' 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    elements = _Elements(text).found
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on") or name == "style"]
    links = [value for _, attributes in elements for name, value in attributes.items() if name in ("src", "href")]
    files = {path.name for path in folder.APP.iterdir()} | {f"icon-{side}.png" for side in icons.SIZES}
    assert set(links) <= files


def test_scripts_do_not_write_html():
    for path in folder.APP.glob("*.js"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?://", path.read_text()
        ), path
