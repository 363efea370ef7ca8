import pytest

from fd_keras.android_bench import page, report
from fd_keras.android_bench.report_model import read_report
from tests.page_probe import ParsedPage, check_fits


def test_machines_have_separate_sections(results):
    phone, host = read_report(results)
    assert (phone.kind, host.kind) == ("phone", "host")
    text = page.html([phone, host])
    sections = text.split("<section>")[1:]
    assert "Some phone" in sections[0]
    assert "not a phone" not in sections[0]
    assert "this machine: not a phone" in sections[1]
    assert {line["target"] for line in phone.configs[0].summary} == {"adb"}


def test_the_page_is_valid_loads_nothing_and_escapes_names(results):
    text = page.html(read_report(results))
    assert ParsedPage(text).loads == []
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


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_the_window_of_a_browser(results, tmp_path, dark):
    report.write(results)
    check_fits(tmp_path, [results / "report.html"], [1000, 390], dark)
