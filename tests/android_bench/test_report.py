import csv
import io
import subprocess
import sys

from fd_keras.android_bench import report
from fd_keras.android_bench.report_model import read_report
from fd_keras.android_bench.results import Results


def test_a_device_without_results_still_has_its_warnings(results, make_row):
    kept = Results(results)
    kept.append_row(
        make_row("other", [1], run="later", target="adb", device="new", kind="profile", ops=[["CONV_2D", 1.5, "stem"]])
    )
    kept.append_event(run="later", target="adb", device="new", state="failed after 1 of 9", failures=["other: gave up"])
    report.write(results)
    for suffix in ("html", "md"):
        assert "other: gave up" in (results / f"report.{suffix}").read_text()


def test_csv_has_a_line_per_model(results):
    report.write(results)
    lines = list(csv.DictReader(io.StringIO((results / "report.csv").read_text())))
    assert len(lines) == 40
    assert {line["kind"] for line in lines} == {"phone", "host"}
    assert float(lines[0]["ms"]) > 0
    assert lines[0]["arch"]


def test_the_program_writes_three_files_or_reports_missing_results(results, tmp_path):
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
    assert "| 140 | MobileNet 0.5x | 431.7 | 1.10 | 36.7 | 1.20 | 18.4 | 1.20 |" in (results / "report.md").read_text()
    assert "FD-MobileNet 0.25x at 128 float32" in (results / "report.html").read_text()
    assert "128; 128" in (results / "report.csv").read_text()


def test_counts_are_never_mixed_with_times(results, make_count_row):
    counts, name = {"instructions": 12_345_678, "l2_misses": 9}, "op<0>"
    ops = [["CONV_2D", name, make_count_row("a", **counts).details.counts]]
    facts = {"arch": "fd_mobilenet", "alpha": 0.25}
    Results(results).append_row(make_count_row("fd_mobilenet_0.25_224", facts=facts, ops=ops, **counts))
    report.write(results)
    lines = list(csv.DictReader(io.StringIO((results / "report.csv").read_text())))
    (counted,) = [line for line in lines if line["kind"] == "core"]
    assert counted["counts_instructions"] == "12345678"
    assert not [key for key, value in counted.items() if key.endswith("ms") and value]
    assert not [line for line in lines if line["kind"] != "core" and line["counts_instructions"]]
    markdown = (results / "report.md").read_text().split("## cortex-a53")[1]
    assert "| fd_mobilenet_0.25_224 | float32 | NEON | 12.3 |" in markdown
    assert "| 12 | FD-MobileNet 0.25x | 57.2 | 1.00 | 12.3 | 1.00 |" in markdown
    assert "counted, not timed" in markdown
    section = (results / "report.html").read_text().split("<h2>cortex-a53")[1].split("</section>")[0]
    assert "Instructions by kind of op" in section
    assert "op&lt;0&gt;" in section
    assert " ms" not in section


def test_names_are_escaped_in_markdown(results):
    assert "## Some phone &lt;&amp;&gt; (phone)" in report.markdown(read_report(results))


def test_damaged_lines_are_reported_and_skipped(results, capsys):
    report.write(results)
    before = (results / "report.csv").read_text()
    for name, lines in {"rows.jsonl": '{"a": 1}\n{"run": 7}\n\x00\n[]\n', "runs.jsonl": '{"a": 1}\n7\n'}.items():
        with (results / name).open("a") as file:
            file.write(lines)
    report.write(results)
    err = capsys.readouterr().err
    assert "rows.jsonl, line 123: unknown keys a; skipped" in err
    assert err.count("; skipped") == 5
    assert "and 1 more such lines" in err
    assert (results / "report.csv").read_text() == before
    assert "runs.jsonl: 6" in (results / "report.html").read_text()


def test_rows_without_events_are_reported(results, capsys):
    (results / "runs.jsonl").unlink()
    report.write(results)
    assert "runs.jsonl: cannot be read" in capsys.readouterr().err
    assert "not a phone" in (results / "report.html").read_text()


HOSTILE = "=cmd|'/C calc'!A0<script>alert(1)</script>[x](http://y)"


def test_malicious_names_are_escaped(tmp_path, make_row):
    kept = Results(tmp_path)
    names = dict.fromkeys(("device", "engine", "recipe", "core", "delegate"), HOSTILE)
    kept.append_row(make_row(HOSTILE, [1e6], facts={"weights": HOSTILE, "accuracy": {HOSTILE: HOSTILE}}, **names))
    environment = {"device": HOSTILE, "engine": HOSTILE, "soc": HOSTILE, "pinned": {HOSTILE: [1]}}
    kept.append_event(run="r1", state=HOSTILE, environment=environment, failures=[HOSTILE], warnings=[HOSTILE])
    report.write(tmp_path)
    page, markdown, table = ((tmp_path / f"report.{suffix}").read_text() for suffix in ("html", "md", "csv"))
    for text in (page, markdown):
        assert "<script" not in text
    assert "](http://" not in markdown
    cells = [cell for line in csv.reader(io.StringIO(table)) for cell in line]
    assert any(cell.startswith("'=cmd") for cell in cells)
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
