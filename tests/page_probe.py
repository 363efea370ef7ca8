"""Checks HTML pages by parsing them and in a real browser."""

import json
import pathlib
import re
from html.parser import HTMLParser

from tests import browser

_VOID = {"meta", "img", "line", "path", "br"}
# Width of the page and of its window, and color of the text.
_MEASURES = "[document.documentElement.scrollWidth, innerWidth, getComputedStyle(document.body).color]"


class ParsedPage(HTMLParser):
    """A parsed page. Raises AssertionError if its tags are not closed in order.

    Attributes:
        loads: URLs that the page loads.
        images: Attributes of the images.
        texts: Texts of the elements, by tag.
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
    """Checks that a page loads and runs nothing, and has both color schemes; returns the parsed page."""
    page = ParsedPage(text)
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.loads)
    without_code = re.sub(r"<pre.*?</pre>", "", text, flags=re.DOTALL)
    assert not re.search(r"https?:|<script|@import|url\(|<[^>]* on\w+=", without_code)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text
    return page


def check_fits(folder: pathlib.Path, pages: list[pathlib.Path], widths: list[int], dark: bool) -> None:
    """Checks in a browser that pages fit their window, and that the text is light only in the dark color scheme.

    Args:
        folder: Folder for the profile of the browser.
        pages: Paths of the pages.
        widths: Widths of the window in pixels.
        dark: Whether the browser prefers the dark color scheme.
    """
    with browser.started(folder / "profile") as started:
        tab = started.tab()
        for page in pages:
            tab.call("Page.navigate", url=page.as_uri())
            tab.wait(f"document.readyState === 'complete' && location.href === {json.dumps(page.as_uri())}")
            for width in widths:
                tab.show(width, 900, dark)
                needed, window, color = tab.run(_MEASURES)
                assert window == width
                assert needed <= width, (page, width, needed)
                assert (int(re.findall(r"\d+", color)[0]) > 128) == dark, color
