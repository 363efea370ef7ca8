import base64
import io

import numpy as np
from PIL import Image

from fd_keras.training import html_page
from tests.page_probe import ParsedPage, check_stands_alone

HOSTILE = '</title><script>alert("1")</script>\n\u202e'


def test_a_document_is_self_contained_and_escapes_its_title():
    page = check_stands_alone(html_page.document(HOSTILE, "<p>text</p>", "p { color: red; }"))
    assert page.texts["title"] == ['</title><script>alert("1")</script>\\n\\u202e']
    assert page.texts["style"][0].rstrip().endswith("p { color: red; }")


def test_names_and_figures_are_escaped():
    assert (
        html_page.name(HOSTILE)
        == "<bdi>&lt;/title&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;\\n\\u202e</bdi>"
    )
    assert ParsedPage(html_page.figures([("<i>1</i>", "<2>")])).texts["li"] == ["1<2>"]


def test_a_table_has_row_and_column_titles():
    page = ParsedPage(html_page.table("a <caption>", ["x", "y"], [["one", "1"], ["two", "2"]]))
    assert page.texts["caption"] == ["a <caption>"]
    assert page.texts["th"] == ["x", "y", "one", "two"]
    assert page.texts["td"] == ["1", "2"]


def test_an_image_is_embedded_in_its_url():
    gray = Image.fromarray(np.full((8, 6, 3), 90, "uint8"))
    head, data = html_page.jpeg_url(gray, 90).split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (6, 8)
        assert abs(int(np.asarray(image).mean()) - 90) < 4
