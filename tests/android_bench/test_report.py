import csv
import io
import subprocess
import sys

from fd_keras.android_bench import report
from fd_keras.android_bench.report_model import read_report
from fd_keras.android_bench.results import Results


def test_a_device_on_which_nothing_could_be_timed_still_has_its_warnings(results, make_row):
    kept = Results(results)
    kept.append_row(
        make_row("other", [1], run="later", target="adb", device="new", kind="profile", ops=[("CONV_2D", 1.5, "stem")])
    )
    kept.append_event(
        run="later", target="adb", device="new", state="failed after 1 of 9", failures=["other: given up"]
    )
    report.write(results)
    for suffix in ("html", "md"):
        assert "other: given up" in (results / f"report.{suffix}").read_text()


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


def test_table4_and_sizes_are_in_the_files(results, make_row):
    facts = {"arch": "fd_mobilenet", "alpha": 0.25, "size": [128, 128]}
    Results(results).append_row(make_row("fd_mobilenet_0.25_128", [1e6], facts=facts, device="another"))
    report.write(results)
    assert "| 140 | MobileNet 0.5x | 1.10 | 36.7 | 1.20 | 18.4 | 1.20 |" in (results / "report.md").read_text()
    assert "FD-MobileNet 0.25x at 128 float32" in (results / "report.html").read_text()
    assert "128; 128" in (results / "report.csv").read_text()


def test_names_are_escaped_in_markdown(results):
    assert "## Some phone &lt;&amp;&gt; (phone)" in report.markdown(read_report(results))
