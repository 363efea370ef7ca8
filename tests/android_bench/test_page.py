import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from fd_keras.android_bench import page, report
from fd_keras.android_bench.report_model import read_report


def test_a_phones_column_is_never_filled_by_another_machine(results):
    phone, host = read_report(results)
    assert (phone.kind, host.kind) == ("phone", "host")
    text = page.html([phone, host])
    sections = text.split("<section>")[1:]
    assert "Some phone" in sections[0]
    assert "not a phone" not in sections[0]
    assert "this machine: not a phone" in sections[1]
    assert {line["target"] for line in phone.configs[0].summary} == {"adb"}


class _Page(HTMLParser):
    """Checks that what is opened is closed, and collects what the page would load."""

    VOID = {"meta", "line", "circle", "path", "br", "img", "link"}

    def __init__(self, text):
        super().__init__()
        self.open, self.loads = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.loads += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_is_whole_loads_nothing_and_escapes(results):
    text = page.html(read_report(results))
    assert _Page(text).loads == []
    assert "http" not in text.replace("http-equiv", "")
    assert "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'" in text
    assert "<script" not in text
    assert "the &lt;phone&gt; is throttled" in text
    assert "shuffle&lt;1&gt;" in text
    assert "31 °C → 36 °C" in text
    assert "Some phone &lt;&amp;&gt; <span" in text
    assert "<&>" not in text
    assert "<dd>R58M</dd>" in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


WIDTHS = [1000, 390]
# Shows the report in frames of some widths, and reports through its own title.
FRAME = '<iframe src="results/report.html" style="width:{}px;height:900px;border:0"></iframe>'
SCRIPT = """<title>-</title><script>onload = () => {
  document.title = [...document.querySelectorAll("iframe")].map(frame => {
    const inside = frame.contentWindow, page = inside.document;
    return [page.documentElement.scrollWidth, inside.innerWidth, inside.getComputedStyle(page.body).color].join();
  }).join(" ");
}</script>"""


@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_it_without_overflow(results, tmp_path, dark):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("no chromium: apt-get install chromium")
    report.write(results)
    probe = tmp_path / "probe.html"
    probe.write_text(SCRIPT + "".join(map(FRAME.format, WIDTHS)))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += ["--allow-file-access-from-files", "--virtual-time-budget=3000", "--window-size=1400,1000"]
    flags += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    done = subprocess.run([browser, *flags, "--dump-dom", probe.as_uri()], capture_output=True, text=True)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stdout[:500] + done.stderr[-500:]
    seen = [tuple(map(int, numbers)) for numbers in re.findall(r"(\d+),(\d+),rgb\((\d+), ", title[1])]
    assert [width for _, width, _ in seen] == WIDTHS
    assert all(needed <= width for needed, width, _ in seen)
    assert [brightness > 128 for *_, brightness in seen] == [dark] * len(WIDTHS)
