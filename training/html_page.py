"""Builds HTML pages without scripts or network requests: frame, style, tables, names and pictures."""

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from fd_keras.io import printable

if TYPE_CHECKING:
    from PIL import Image

# Forbids the browser to load or run anything, whatever names are on the page. The policy and the frame below are also
# in android_bench/page.py, since android_bench only imports the standard library.
_POLICY = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'\">"
)
_STYLE = """
:root { --paper:#fff; --ink:#1b1f24; --soft:#5b6470; --line:#dfe3e8; --card:#f6f7f9; --curve:#1f6feb;
  color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --paper:#14171b; --ink:#e6e9ee; --soft:#9aa4b2; --line:#2c333d;
  --card:#1b2027; --curve:#6ea8fe; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; }
p { max-width: 46rem; } .soft, figcaption { color: var(--soft); font-size: .9rem; }
.figures { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; padding: 0; list-style: none; }
.figures li { background: var(--card); border-radius: .5rem; padding: .5rem .9rem; color: var(--soft);
  font-size: .85rem; }
.figures b { display: block; color: var(--ink); font-size: 1.5rem; line-height: 1.3;
  font-variant-numeric: tabular-nums; }
figure { margin: 0; } .scroll { overflow-x: auto; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
@media (max-width: 34rem) { h1 { font-size: 1.3rem; } }
"""


def document(title: str, body: str, style: str) -> str:
    """Returns a complete HTML page.

    Args:
        title: Title of the page, plain text.
        body: Content of the page, HTML.
        style: CSS to append to the common style.
    """
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{_POLICY}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(printable(title))}</title>
<style>{_STYLE}{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def figures(items: Sequence[tuple[str, str]]) -> str:
    """Returns a row of large figures.

    Args:
        items: Pairs of a figure (HTML) and its name (plain text).
    """
    cells = "".join(f"<li><b>{value}</b>{escape(name)}</li>" for value, name in items)
    return f'<ul class="figures">{cells}</ul>'


def name(text: str) -> str:
    """Returns an untrusted name as HTML: escaped, and isolated so that it cannot reverse the text around it."""
    return f"<bdi>{escape(printable(text))}</bdi>"


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """Returns a table that scrolls horizontally on narrow screens.

    Args:
        caption: Caption for screen readers, plain text.
        heads: Column titles, HTML.
        rows: Cells of each row, HTML; the first cell is the title of the row.
        kind: CSS class of the table.
    """
    head = "".join(f'<th scope="col">{title}</th>' for title in heads)
    body = "".join(
        f'<tr><th scope="row">{title}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for title, *cells in rows
    )
    return scrolling(
        caption,
        f'<table class="{kind}"><caption class="unseen">{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>",
    )


def scrolling(label: str, content: str) -> str:
    """Wraps wide content in a frame that scrolls horizontally, by keyboard too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{content}</div>'


def jpeg_url(image: "Image.Image", quality: int) -> str:
    """Returns an image as a JPEG data URL."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
