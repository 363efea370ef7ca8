"""Stores the timings of the camera page as rows of a results folder, with the target "browser"."""

import dataclasses
import datetime
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from fd_keras.android_bench import report, schema
from fd_keras.android_bench.models import ModelFile
from fd_keras.android_bench.plan import Job, Launch
from fd_keras.android_bench.results import Results
from fd_keras.android_bench.rows import Latency, Origin, Row
from fd_keras.android_bench.session import new_run_name
from fd_keras.android_bench.summary import describe
from fd_keras.io import printable

TARGET = "browser"
_DELEGATES = {"wasm": "xnnpack", "webgpu": "gpu"}  # delegate names in rows, by LiteRT.js accelerator
_MOST_ROUNDS, _MOST_SAMPLES = 1000, 1_000_000
_NS_PER_MS = 1e6
_POSITIVE = schema.Kind("a number above 0", lambda value: schema.NUMBER.test(value) and value > 0)
_ROUND = {"label": schema.TEXT, "round": schema.COUNT, "place": schema.COUNT, "batch": schema.COUNT, "ms": [_POSITIVE]}
_SENT = {
    "browser": schema.TEXT,
    "device": schema.TEXT,
    "accelerator": schema.Kind("wasm or webgpu", lambda value: value in _DELEGATES),
    "runtime": schema.TEXT,
    "first_ms": schema.Mapped(_POSITIVE),
    "rounds": [_ROUND],
}
_MOST_TEXT = 200


def save(sent: Any, models: Sequence[ModelFile], output_dir: str, phone: str = "") -> int:
    """Appends a measurement of the page to a results folder and writes its report.

    Args:
        sent: The JSON content that the page sent.
        models: The models on the page.
        output_dir: The results folder.
        phone: Name of the phone on which this program opened the page; "" if none.

    Returns:
        Number of rows.

    Raises:
        ValueError: If the content is invalid; the message has the reason.
        BenchError: If the folder cannot be written.
    """
    rows = parse(sent, models, phone)
    results = Results(output_dir)
    with results.lock():
        results.append_event(**_event(sent, rows))
        for row in rows:
            results.append_row(row)
        report.write(Path(output_dir))
        results.append_event(run=rows[0].run, reported=True)
    return len(rows)


def parse(sent: Any, models: Sequence[ModelFile], phone: str = "") -> list[Row]:
    """Converts a measurement to rows; see `save`."""
    known = {model.label: model for model in models}
    _check(sent, known)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    engine = f"{_text(sent['runtime'])}, {_text(sent['browser'])}"
    origin = Origin(TARGET, _text(phone or sent["device"]), engine, TARGET)
    run, delegate = new_run_name(origin.device), _DELEGATES[sent["accelerator"]]
    rows = []
    for entry in sent["rounds"]:
        launch = Launch(entry["round"], entry["place"], Job(known[entry["label"]], 1, delegate))
        rows.append(Row(run, origin, launch, now, _latency(entry, sent["first_ms"])))
    return rows


def _check(sent: Any, known: Container[str]) -> None:
    """Raises ValueError if a measurement is invalid or names models that are not on the page."""
    if wrong := schema.absurdity(sent) or schema.mismatch(sent, _SENT, "the measurement"):
        raise ValueError(wrong)
    if missing := _SENT.keys() - sent.keys():
        raise ValueError(f"missing keys: {', '.join(sorted(missing))}")
    if not 1 <= len(sent["rounds"]) <= _MOST_ROUNDS:
        raise ValueError(f"{len(sent['rounds'])} rounds, expected 1 to {_MOST_ROUNDS}")
    for entry in sent["rounds"]:
        if missing := _ROUND.keys() - entry.keys():
            raise ValueError(f"a round lacks {', '.join(sorted(missing))}")
        if entry["label"] not in known:
            raise ValueError(f"a round is for {schema.shown(entry['label'])}, which is not on this camera page")
        if not 1 <= len(entry["ms"]) <= _MOST_SAMPLES:
            raise ValueError(f"a round has {len(entry['ms'])} samples, expected 1 to {_MOST_SAMPLES}")


def _latency(entry: Mapping[str, Any], first_ms: Mapping[str, float]) -> Latency:
    """Statistics of a round; each sample is the mean of a batch, since browser clocks are coarse."""
    first = first_ms.get(entry["label"])
    first_ns = None if first is None else round(first * _NS_PER_MS)
    return dataclasses.replace(describe(round(ms * _NS_PER_MS) for ms in entry["ms"]), first_ns=first_ns)


def _event(sent: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """The line for the measurement in runs.jsonl."""
    origin, first = rows[0].origin, rows[0]
    return {
        "run": first.run,
        "target": TARGET,
        "device": origin.device,
        "options": {"rounds": max(row.launch.round for row in rows), "runs": first.latency.runs},
        "environment": {"device": origin.device, "engine": origin.engine, "kind": TARGET, "os": _text(sent["browser"])},
        "state": "complete",
        "reported": False,
        "failures": [],
        "warnings": [_note(sent)],
    }


def _note(sent: Mapping[str, Any]) -> str:
    batch = max(entry["batch"] for entry in sent["rounds"])
    counted = f"each sample is the mean of up to {batch} invocations, since a browser's clock is coarse"
    return f"timed in a browser, which is slower than an app; {counted}"


def _text(text: str) -> str:
    """Shortens text and escapes its control characters."""
    return printable(text)[:_MOST_TEXT] or "browser"
