import csv
import io
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from fd_keras.android_bench import page, paper, report
from fd_keras.android_bench.plan import BenchError
from fd_keras.android_bench.results import Results

# ms of each network in float32 on a made-up phone; int8 takes half of it, the host a third.
MS = {
    ("fd_mobilenet", 1.0): 30.0, ("mobilenet", 0.5): 36.0, ("shufflenet", 1.0): 45.0, ("fd_shufflenet", 1.0): 33.0,
    ("fd_mobilenet", 0.5): 10.0, ("mobilenet", 0.25): 11.0, ("shufflenet", 0.5): 16.0,
    ("fd_mobilenet", 0.25): 4.0, ("mobilenet", 0.125): 4.4, ("shufflenet", 0.25): 8.0,
}  # fmt: skip
TOP1 = {
    ("fd_mobilenet", 1.0): 65.3,
    ("fd_mobilenet", 0.5): 56.2,
    ("fd_mobilenet", 0.25): 45.1,
    ("mobilenet", 0.125): 39.6,
}
OPS = [("CONV_2D", 1.5, "stem"), ("DEPTHWISE_CONV_2D", 0.5, "dw"), ("Transpose (ND, X8)", 0.25, "shuffle<1>")]


@pytest.fixture
def results(tmp_path, make_row):
    """A folder with a run on a phone and one on this machine."""
    kept = Results(tmp_path / "results")
    for device, kind, scale in (("R58M", "phone", 1), ("here", "host", 1 / 3)):
        target = "adb" if kind == "phone" else "host"
        environment = {"device": f"Some {kind} <&>", "kind": kind, "engine": "benchmark_model", "cores": 8}
        environment["android"] = "14"
        environment["state"] = {"temperature": 31.0, "governor": {"0": "schedutil"}, "battery": {"percent": 80}}
        start = {"run": device, "target": target, "device": device, "environment": environment, "state": "interrupted"}
        kept.note(**start, options={"rounds": 3, "runs": 50, "min_secs": 1.0}, baseline="fd_mobilenet_1.0_224_float32")
        for number in (1, 2, 3):
            for (arch, alpha), ms in MS.items():
                for recipe, share in (("float32", 1), ("int8", 0.5)):
                    median = ms * scale * share * 1e6 * (1 + 0.01 * number)
                    facts = {"arch": arch, "alpha": alpha}
                    facts |= {"paper_top1": TOP1[arch, alpha]} if (arch, alpha) in TOP1 else {}
                    common = {"run": device, "target": target, "device": device, "facts": facts, "round": number}
                    common |= {"after": {"temperature": 36.0, "battery": {"percent": 78}}, "core": "big"}
                    kept.keep(make_row(f"{arch}_{alpha}_224", [median], recipe=recipe, **common))
        extra = {"run": device, "target": target, "device": device, "core": "big", "kind": "profile", "ops": OPS}
        kept.keep(make_row("fd_mobilenet_1.0_224", [1], round=4, **extra))
        warnings = ["the <phone> is throttled"] if kind == "phone" else []
        kept.note(run=device, state="complete", warnings=warnings, failures=[])
    return kept.folder


def test_table4_is_ours_beside_the_papers(results):
    phone, host = report.read(results)
    (config,) = phone.configs
    lines = {(line.arch, line.alpha): line for lines in config.table4.budgets.values() for line in lines}
    assert {key: round(line.cells["float32"].ms / 1.02, 6) for key, line in lines.items()} == MS
    for (arch, alpha), ours in {("mobilenet", 0.5): 1.2, ("shufflenet", 0.25): 2.0, ("fd_mobilenet", 0.5): 1.0}.items():
        assert lines[arch, alpha].cells["int8"].ratio == pytest.approx(ours)
    assert lines["mobilenet", 0.5].paper_ratio == 1.10
    assert lines["shufflenet", 0.25].paper_ratio == 1.82
    assert lines["fd_mobilenet", 0.5].paper_ratio == 1
    assert lines["fd_shufflenet", 1.0].paper_ratio is None
    markdown = (results / "report.md") if report.write(results) else None
    assert "| 140 | MobileNet 0.5x | 1.10 | 36.7 | 1.20 | 18.4 | 1.20 |" in markdown.read_text()


def test_a_phones_column_is_never_filled_by_another_machine(results):
    phone, host = report.read(results)
    assert (phone.kind, host.kind) == ("phone", "host")
    text = page.html([phone, host])
    sections = text.split("<section>")[1:]
    assert "Some phone" in sections[0]
    assert "not a phone" not in sections[0]
    assert "this machine: not a phone" in sections[1]
    assert {line["target"] for line in phone.configs[0].summary} == {"adb"}


def test_the_latest_run_of_a_device_counts(results, make_row):
    kept = Results(results)
    kept.keep(make_row("other", [1_000_000], run="later", target="adb", device="R58M"))
    phone = next(device for device in report.read(results) if device.run["run"] == "later")
    assert [line["model"] for line in phone.configs[0].summary] == ["other"]
    assert phone.configs[0].table4 is None
    assert "not complete" in phone.warnings[0]


def test_two_files_of_one_network_are_not_mixed_in_table4(results, make_row):
    kept = Results(results)
    facts = {"arch": "fd_mobilenet", "alpha": 0.25}
    common = {"run": "later", "target": "adb", "device": "R58M", "recipe": "float32"}
    files = {"fd_mobilenet_0.25_128": (128, 1), "a_finetuned": (224, 2), "fd_mobilenet_0.25_224": (224, 4)}
    for name, (side, ms) in files.items():
        kept.keep(make_row(name, [ms * 1e6], facts=facts | {"size": [side, side]}, **common))
    phone = next(device for device in report.read(results) if device.run["run"] == "later")
    assert phone.configs[0].table4.budgets[12][0].cells["float32"].ms == 4
    report.write(results)
    text = (results / "report.html").read_text()
    assert "FD-MobileNet 0.25x at 128 float32" in text
    assert "0.25x at 224" not in text
    assert "128; 128" in (results / "report.csv").read_text()


def test_a_device_on_which_nothing_could_be_timed_still_has_its_warnings(results, make_row):
    kept = Results(results)
    kept.keep(make_row("other", [1], run="later", target="adb", device="new", kind="profile", ops=OPS))
    kept.note(run="later", target="adb", device="new", state="failed after 1 of 9", failures=["other: given up"])
    report.write(results)
    for suffix in ("html", "md"):
        assert "other: given up" in (results / f"report.{suffix}").read_text()


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
    text = page.html(report.read(results))
    assert _Page(text).loads == []
    assert "http" not in text.replace("http-equiv", "")
    assert "<script" not in text
    assert "the &lt;phone&gt; is throttled" in text
    assert "shuffle&lt;1&gt;" in text
    assert "31 °C → 36 °C" in text
    assert "Some phone &lt;&amp;&gt; <span" in text
    assert "<&>" not in text
    assert "<dd>R58M</dd>" in text
    assert "## Some phone &lt;&amp;&gt; (phone)" in report.markdown(report.read(results))
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_pareto_front():
    points = [(1, 40), (2, 50), (3, 45), (4, 60), (4, 55), (5, 60)]
    assert report.pareto(points) == [(1, 40), (2, 50), (4, 60)]
    assert report.pareto([]) == []


def test_own_accuracy_goes_before_the_papers(make_row):
    rows = [make_row("a", [1_000_000], facts={"accuracy": {"top1": 55.5}, "paper_top1": 45.1})]
    assert page._accuracy(report.summarise(rows)[0]) == (55.5, False)
    quoted = {"paper_top1": 45.1, "recipe": "float32"}
    assert page._accuracy(quoted) == (45.1, True)
    assert page._accuracy({}) is None


def test_the_papers_accuracy_is_not_lent_to_quantized_files(results):
    text = page.html(report.read(results))
    assert "fd_mobilenet_1.0_224_float32: 30.600 ms, 65.3% (paper)" in text
    assert "fd_mobilenet_1.0_224_int8:" not in text
    assert page._accuracy({"paper_top1": 45.1, "recipe": "int8"}) is None


def test_csv_has_a_line_per_model(results):
    report.write(results)
    lines = list(csv.DictReader(io.StringIO((results / "report.csv").read_text())))
    assert len(lines) == 40
    assert {line["kind"] for line in lines} == {"phone", "host"}
    assert float(lines[0]["ms"]) > 0
    assert lines[0]["arch"]


def test_the_program_writes_three_files_or_tells_what_is_missing(results, tmp_path):
    call = [sys.executable, "-m", "android_bench.report"]
    done = subprocess.run([*call, results], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.split() == [str(results / f"report.{s}") for s in ("html", "md", "csv")]
    for folder in (tmp_path / "nowhere", tmp_path):
        done = subprocess.run([*call, folder], capture_output=True, text=True)
        assert done.returncode == 2
        assert str(folder) in done.stderr
        assert "Traceback" not in done.stderr


def test_a_folder_without_rows_is_named(tmp_path):
    Results(tmp_path)
    with pytest.raises(BenchError, match="no rows here"):
        report.read(tmp_path)


def test_the_papers_table_names_the_networks_of_its_table_2():
    from fd_keras import zoo

    ours = {
        (arch, alpha) for budget in paper.TABLE4 for arch, alpha in budget.alphas.items() if arch != "fd_shufflenet"
    }
    assert ours == {(row.arch, row.alpha) for row in zoo.PAPER_TABLE2}
    assert {name: zoo.get_arch(name).title for name in zoo.ARCHS} == paper.TITLES


# Shows the report in a frame of some width, and reports through its own title.
PROBE = """<title>-</title><iframe src="results/report.html" style="width:{width}px;height:900px;border:0"></iframe>
<script>onload = () => {{
  const frame = document.querySelector("iframe").contentWindow, page = frame.document;
  const colour = frame.getComputedStyle(page.body).color;
  document.title = [page.documentElement.scrollWidth, frame.innerWidth, colour];
}}</script>"""


@pytest.mark.parametrize("width", [1000, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_it_without_overflow(results, tmp_path, width, dark):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("no chromium: apt-get install chromium")
    report.write(results)
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(width=width))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += ["--allow-file-access-from-files", "--virtual-time-budget=3000", "--window-size=1400,1000"]
    flags += ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    done = subprocess.run([browser, *flags, "--dump-dom", probe.as_uri()], capture_output=True, text=True, timeout=60)
    match = re.search(r"<title>(\d+),(\d+),rgb\((\d+), ", done.stdout)
    assert match, done.stdout[:500] + done.stderr[-500:]
    assert int(match[1]) <= int(match[2]) == width
    assert (int(match[3]) > 128) == dark
