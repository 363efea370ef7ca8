"""Timings from the page: rows that the report reads; anything else is refused."""

import copy

import pytest

from fd_keras.android_bench import report_model, results
from fd_keras.web import browser_rows

SENT = {
    "browser": "Chrome 1.2, Android 15",
    "device": "Pixel",
    "accelerator": "wasm",
    "runtime": "LiteRT.js 1",
    "first_ms": {"colors_float32": 9.5},
    "rounds": [
        {"label": "colors_float32", "round": 1, "place": 1, "batch": 4, "ms": [2.0, 4.0]},
        {"label": "colors_float32", "round": 2, "place": 1, "batch": 4, "ms": [3.0, 3.0]},
    ],
}


def test_rows_are_stored_and_reported(sources, tmp_path):
    folder = tmp_path / "results"
    assert browser_rows.save(SENT, sources, str(folder)) == 2
    first, _ = results.read_rows(folder)
    assert (first.origin.target, first.origin.machine, first.origin.device) == ("browser", "browser", "Pixel")
    assert first.origin.engine == "LiteRT.js 1, Chrome 1.2, Android 15"
    assert (first.latency.median_ns, first.latency.first_ns, first.latency.samples_ns) == (
        3e6,
        9.5e6,
        [2000000, 4000000],
    )
    (device,) = report_model.read_report(folder)
    assert (device.name, device.kind) == ("Pixel", "browser")
    assert device.configs[0].summary[0]["ms"] == 3
    assert "a browser's clock is coarse" in device.warnings[0]
    assert (folder / "report.html").is_file()


def test_rows_of_a_phone_have_its_name_as_device(sources):
    assert browser_rows.parse(SENT, sources, "SM-A525F")[0].origin.device == "SM-A525F"


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("accelerator", "steam", "accelerator must be wasm or webgpu"),
        ("rounds", [], "0 rounds, expected 1 to"),
        ("rounds", [{**SENT["rounds"][0], "label": "other"}], "a round is for 'other', which is not on this camera"),
        ("rounds", [{**SENT["rounds"][0], "ms": [-1]}], "must be a number above 0"),
        ("rounds", [{**SENT["rounds"][0], "ms": []}], "a round has 0 samples, expected 1 to"),
        ("rounds", [{"label": "colors_float32"}], "a round lacks batch, ms, place, round"),
        ("first_ms", {"a": "b"}, "a must be a number above 0"),
        ("device", 5, "device must be text"),
    ],
)
def test_invalid_values_are_rejected(sources, key, value, fault):
    sent = copy.deepcopy(SENT) | {key: value}
    with pytest.raises(ValueError, match=fault):
        browser_rows.parse(sent, sources)


def test_names_are_escaped_and_shortened(sources):
    sent = SENT | {"device": "a\x1b[31m\n\u202e" + "b" * 500}
    device = browser_rows.parse(sent, sources)[0].origin.device
    assert device.startswith(r"a\x1b[31m\n\u202ebbb")
    assert len(device) == 200


def test_missing_keys_are_named(sources):
    with pytest.raises(ValueError, match="missing keys: browser"):
        browser_rows.parse({key: value for key, value in SENT.items() if key != "browser"}, sources)
    with pytest.raises(ValueError, match="the measurement must be an object"):
        browser_rows.parse([], sources)
