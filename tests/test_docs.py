"""The documentation: the site builds, pages load nothing from other servers, and all commands and flags exist."""

import html
import html.parser
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from fd_keras import cli

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", f"--site-dir={folder}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def flags(site) -> dict[str, set[str]]:
    """The flags of each command, from the command reference."""
    page = html.unescape((site / "reference" / "commands.html").read_text("utf-8"))
    sections = re.split(r'<h2 id="', page)[1:]
    texts = {re.sub(r"<[^>]+>", "", section): section for section in sections}
    found = {}
    for words in cli.every_command():
        section = next(text for text in texts if re.search(rf">fd-keras {words}\W", text))
        found[words] = set(re.findall(r"--(?:\[no\])?(\w+)", section))
    return found


class _Loaded(html.parser.HTMLParser):
    """Collects the URLs that a page loads."""

    def __init__(self):
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag, attrs):
        names = {"script": "src", "img": "src", "iframe": "src", "link": "href"}
        values = dict(attrs)
        if tag in names and values.get("rel") != "canonical":
            self.urls += [values.get(names[tag]) or ""]


def test_pages_load_nothing_from_other_servers(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        loaded = _Loaded()
        loaded.feed(page.read_text("utf-8"))
        assert not [url for url in loaded.urls if re.match(r"(https?:)?//", url)], page


def test_every_public_name_is_documented(site):
    import fd_keras

    page = (site / "reference" / "python.html").read_text("utf-8")
    for name in set(fd_keras.__all__) - {"__version__"}:
        assert re.search(rf'id="fd_keras\.\w+\.{name}"', page), name


def commands(page: pathlib.Path) -> list[list[str]]:
    """The words of each command in the code blocks of a page, without comments."""
    text = re.sub(r"\\\n\s*", " ", page.read_text("utf-8"))
    lines = re.findall(r"^(?:    |)((?:\w+=\S+ )*(?:fd-keras|make|python -m) .*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines if "`" not in line]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist_with_their_flags(page, flags):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(page):
        words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
        stop = next((index for index, word in enumerate(words) if word in {"|", "&&", ";", ">"}), len(words))
        program, *rest = words[:stop]
        if program == "make":
            assert set(rest) <= targets, words
        elif program == "python":
            assert (ROOT / (rest[1].replace(".", "/") + ".py")).exists(), words
        elif rest and not rest[0].startswith("-"):
            name = " ".join(rest[:2]) if rest[0] == "detect" else rest[0]
            assert name in flags, words
            given = {word.lstrip("-").partition("=")[0] for word in rest if word.startswith("--")}
            unknown = {flag for flag in given if flag not in flags[name] and flag.removeprefix("no") not in flags[name]}
            assert not unknown, words
