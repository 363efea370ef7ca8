from fd_keras.training import reporting
from tests import needs

ROWS = [
    {"epoch": n, "step": 4 * n, "lr": 0.1, "loss": 2.0 / n, "top1": 0.2 * n, "top5": 0.9, "val_loss": 3.0,
     "val_top1": 0.1 * n, "val_top5": 0.8, "images_per_second": 1234.5, "input_bound": 0.25, "seconds": 60.0}
    for n in (1, 2)
]  # fmt: skip


def test_lines():
    losses = {"loss": 5.1234, "top1": 0.042}
    line = reporting.batch_line("3/90", 120, 5004, 1234.4, losses, left=12_000)
    assert line.startswith("epoch 3/90 [")
    assert "1234 images/s  loss 5.123  top-1 4.2%  3 h 20 min left" in line
    line = reporting.epoch_line(ROWS[1], 90)
    assert line.startswith("epoch 2/90  loss 1.000  top-1 40.00%  |  validation loss 3.000  top-1 20.00%")
    assert line.endswith("1234 images/s, waited 25% for input")
    assert reporting.waits({"input_bound": 0.05}) == ""


def test_history_csv_has_all_columns(tmp_path):
    path = tmp_path / "history.csv"
    reporting.write_history(str(path), ROWS)
    lines = path.read_text().splitlines()
    assert lines[0] == ",".join(reporting.COLUMNS)
    assert lines[2] == "2,8,0.1,1,0.4,0.9,3,0.2,0.8,1234.5,0.25,60"


def test_interval_means_are_computed_from_running_means():
    interval, losses = reporting.Interval(), [5.0, 3.0, 1.0, 1.0]
    assert interval.means(2, {"loss": sum(losses[:2]) / 2}) == {"loss": 4.0}
    assert interval.means(4, {"loss": sum(losses) / 4}) == {"loss": 1.0}
    assert interval.means(1, {"loss": 7.0}) == {"loss": 7.0}  # another epoch


def test_figures_are_drawn(tmp_path):
    needs.package("matplotlib")
    reporting.plot(str(tmp_path / "curves.png"), "a run", ROWS)
    reporting.plot_runs(str(tmp_path / "runs.svg"), {"a": [ROWS, ROWS], "b": [ROWS[:1]]})
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "runs.svg").read_bytes()


def test_tensorboard_is_only_written_by_the_leading_process(tmp_path):
    needs.package("tensorboard")
    for folder, leads in (("leads", True), ("follows", False)):
        board = reporting.TensorBoard(str(tmp_path / folder), write=leads)
        board.write(3, {"training/loss": 1.5})
        board.flush()
    (events,) = (tmp_path / "leads").iterdir()
    assert b"training/loss" in events.read_bytes()
    assert not (tmp_path / "follows").exists()
