"""Looks at pages: as HTML, and in a real browser."""

import pathlib
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

_VOID = {"meta", "img", "line", "path", "br"}
_FRAME = '<iframe src="{}" style="width:{}px;height:900px;border:0"></iframe>'
# Reports what pages need and have through the title of the page that frames them.
_SCRIPT = """<meta charset="utf-8"><title>-</title><script>onload = () => {
  document.title = [...document.querySelectorAll("iframe")].map(frame => {
    const inside = frame.contentWindow, page = inside.document;
    return [page.documentElement.scrollWidth, inside.innerWidth, inside.getComputedStyle(page.body).color].join();
  }).join(" ");
}</script>"""


class ParsedPage(HTMLParser):
    """A page whose tags are closed in their order, or an AssertionError.

    Attributes:
        loads: What it would load.
        images: Attributes of the pictures.
        texts: Text of every element of a kind, by its tag.
    """

    def __init__(self, text: str):
        super().__init__()
        self.loads, self.images, self.texts, self._open = [], [], {}, []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.loads += [value for name, value in attrs if name in ("src", "href") and not (value or "").startswith("#")]
        if tag == "img":
            self.images.append(attributes)
        if tag not in _VOID:
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        if tag not in _VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        for tag in set(self._open):
            self.texts[tag][-1] += data


def check_stands_alone(text: str) -> ParsedPage:
    """Checks that a page loads and runs nothing, and has both color schemes; returns it."""
    page = ParsedPage(text)
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.loads)
    without_code = re.sub(r"<pre.*?</pre>", "", text, flags=re.DOTALL)
    assert not re.search(r"https?:|<script|@import|url\(|<[^>]* on\w+=", without_code)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text
    return page


def check_fits(folder: pathlib.Path, pages: list[pathlib.Path], widths: list[int], dark: bool) -> None:
    """Checks in a browser that no page is wider than its window, and that the text is light if and only if it is dark.

    Args:
        folder: Folder to work in, which the pages are in or below.
        pages: Paths of the pages.
        widths: Widths of windows in pixels.
        dark: Whether the browser prefers dark pages.
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("no chromium: apt-get install chromium")
    probe = folder / "probe.html"
    probe.write_text(_SCRIPT + "".join(_FRAME.format(page.as_uri(), width) for page in pages for width in widths))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", f"--user-data-dir={folder / 'profile'}"]
    flags += ["--allow-file-access-from-files", "--virtual-time-budget=3000", "--window-size=1400,1000"]
    flags += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    done = subprocess.run([browser, *flags, "--dump-dom", probe.as_uri()], capture_output=True, text=True)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stdout[:500] + done.stderr[-500:]
    seen = [tuple(map(int, numbers)) for numbers in re.findall(r"(\d+),(\d+),rgb\((\d+), ", title[1])]
    assert [width for _, width, _ in seen] == widths * len(pages)
    assert all(needed <= width for needed, width, _ in seen), seen
    assert [brightness > 128 for *_, brightness in seen] == [dark] * len(seen)
