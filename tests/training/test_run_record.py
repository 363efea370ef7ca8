import json

import pytest

from fd_keras.training import run_record

RUN = {
    "config": {"seed": 0, "model": "fd_mobilenet"},
    "data": {"train": {"fingerprint": "a"}, "val": {"fingerprint": "b"}},
}


def _write(folder, content) -> str:
    path = folder / run_record.FILE
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_the_same_run_can_be_resumed(tmp_path):
    run_record.check_same(str(tmp_path / run_record.FILE), RUN)  # none yet
    run_record.check_same(_write(tmp_path, RUN | {"versions": {"keras": "2"}}), RUN)


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (RUN | {"config": {"seed": 1, "model": "fd_mobilenet"}}, "--seed was 0, now 1"),
    ],
)
def test_another_run_is_rejected(tmp_path, now, message):
    with pytest.raises(ValueError, match=f"{tmp_path} contains another run: {message}"):
        run_record.check_same(_write(tmp_path, RUN), now)


VAL = {"fingerprint": "b", "photos": 6400, "name": "photos/val", "sizes": "s", "sample": "t"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "c", "photos": 6300, "sizes": "u"}, "val had 6,400 photos, now 6,300"),
        (
            {"fingerprint": "c", "name": "other/val"},
            r"val photos have different names or labels \(photos/val, now other/val\)",
        ),
        ({"fingerprint": "c"}, "val photos have different names or labels"),
        ({"sizes": "u"}, "val photos have the same names, but different content"),
        ({"sample": "u"}, "val photos have the same names, but different content"),
    ],
)
def test_other_photos_are_rejected_with_the_difference(tmp_path, change, message):
    path = _write(tmp_path, RUN | {"data": RUN["data"] | {"val": VAL}})
    now = RUN | {"data": RUN["data"] | {"val": VAL | change}}
    with pytest.raises(
        ValueError, match=f"{tmp_path} contains a run on other photos: {message}. Restore them to resume it"
    ):
        run_record.check_same(path, now)


def test_moved_photos_are_accepted(tmp_path):
    path = _write(tmp_path, RUN | {"data": RUN["data"] | {"val": VAL | {"names": "n"}}})
    moved = VAL | {"names": "n", "fingerprint": "c", "name": "moved/val"}
    run_record.check_same(path, RUN | {"data": RUN["data"] | {"val": moved}})
    with pytest.raises(ValueError, match="val photos have different names or labels"):
        run_record.check_same(path, RUN | {"data": RUN["data"] | {"val": moved | {"names": "o"}}})


def test_only_fields_of_an_older_record_are_compared(tmp_path):
    run_record.check_same(_write(tmp_path, RUN), RUN | {"data": RUN["data"] | {"val": VAL}})
    run_record.check_same(_write(tmp_path, RUN | {"data": RUN["data"] | {"val": VAL}}), RUN)


@pytest.mark.parametrize("content", ["{", "{}", '{"config": [], "data": {}}'])
def test_a_damaged_record_is_named(tmp_path, content):
    with pytest.raises(ValueError, match="run.json: damaged"):
        run_record.check_same(_write(tmp_path, content), RUN)


def test_the_run_of_a_model_is_found(tmp_path):
    model = run_record.model_path(str(tmp_path), "last", "net")
    assert model == f"{tmp_path}/last/net.keras"
    assert run_record.config_of(model) is None
    _write(tmp_path, RUN)
    assert run_record.config_of(model) == RUN["config"]


def test_finished_runs_are_found(tmp_path):
    for name, content in (("a", RUN | {"result": {}}), ("b", RUN)):
        (tmp_path / "below" / name).mkdir(parents=True)
        _write(tmp_path / "below" / name, content)
    (found,) = run_record.runs_below([str(tmp_path)])
    assert found["folder"] == str(tmp_path / "below" / "a")
    _write(tmp_path, "{")
    with pytest.raises(ValueError, match="run.json: damaged"):
        run_record.runs_below([str(tmp_path)])
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        run_record.runs_below(["nowhere"])


def test_the_origin_contains_versions_and_the_commit():
    origin = run_record.origin()
    assert origin["versions"]["keras"]
    assert "opencv-python" not in origin["versions"]
    assert origin["git_commit"] is None or len(origin["git_commit"].removesuffix("+changes")) == 40
