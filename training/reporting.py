"""Output of a run: lines on the terminal, TensorBoard, history.csv and plots."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fd_keras import class_names
from fd_keras.io import is_local, join, list_folder, read_bytes, write_atomically, write_figure
from fd_keras.next_step import next_line
from fd_keras.photos import UNDECODABLE, counted
from fd_keras.progress import bar, duration

if TYPE_CHECKING:
    import numpy as np

TRAINED = ("loss", "top1", "top5")
COLUMNS = (
    "epoch", "step", "lr", *TRAINED, *(f"val_{name}" for name in TRAINED),
    "images_per_second", "input_bound", "seconds",
)  # fmt: skip


def batch_line(epoch: str, done: int, steps: int, speed: float, losses: Mapping, left: float) -> str:
    """Formats the progress within an epoch.

    For example "epoch 3/90 [##----] 120/5004 steps  1234 images/s  loss 5.123  top-1 4.2%  3 h 20 min left".

    Args:
        epoch: Number of the epoch and of all epochs, such as "3/90".
        done: Number of steps done in the epoch.
        steps: Number of steps in the epoch.
        speed: Images per second.
        losses: Means since the start of the epoch: "loss" and "top1".
        left: Remaining time of the run in seconds.
    """
    return (
        f"epoch {epoch} {bar(done, steps)} steps  "
        f"{speed:.0f} images/s  loss {losses['loss']:.3f}  top-1 {100 * losses['top1']:.1f}%  {duration(left)} left"
    )


def epoch_line(row: dict, epochs: int, with_top5: bool = True) -> str:
    """Formats the end-of-epoch line; with up to five classes, top-5 says nothing."""
    top5 = f"  top-5 {100 * row['val_top5']:.2f}%" if with_top5 else ""
    return (
        f"epoch {row['epoch']}/{epochs}  loss {row['loss']:.3f}  top-1 {100 * row['top1']:.2f}%  |  validation "
        f"loss {row['val_loss']:.3f}  top-1 {100 * row['val_top1']:.2f}%{top5}  |  "
        f"{row['images_per_second']:.0f} images/s{waits(row)}"
    )


def waits(row: dict) -> str:
    """Formats the share of time spent waiting for input, for the end-of-epoch line; "" below 10%."""
    return f", waited {row['input_bound']:.0%} for input" if row["input_bound"] >= 0.1 else ""


def write_history(path: str, rows: list[dict], columns: Sequence[str] = COLUMNS) -> None:
    """Writes history.csv with one row per epoch; accuracies are between 0 and 1."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows
    )
    write_atomically(path, text.getvalue().encode())


def count_rows(path: str) -> int:
    """Returns the number of epochs in a history.csv; 0 if the file does not exist."""
    folder, _, name = path.rpartition("/")
    if name not in list_folder(folder):
        return 0
    return max(0, read_bytes(path).count(b"\n") - 1)


class Interval:
    """Converts Keras's running means since the start of an epoch into means since the last call."""

    def __init__(self):
        self._count = 0
        self._sums: dict[str, float] = {}

    def means(self, count: int, running: Mapping[str, float]) -> dict[str, float]:
        """Returns the means over the batches since the last call, from the running means over `count` batches."""
        if count <= self._count:
            self._count, self._sums = 0, {}
        sums = {name: value * count for name, value in running.items()}
        result = {name: (sums[name] - self._sums.get(name, 0.0)) / (count - self._count) for name in sums}
        self._count, self._sums = count, sums
        return result


class TensorBoard:
    """Writes scalars and images for TensorBoard; does nothing if TensorBoard is not installed.

    Args:
        folder: Folder of the event files.
        write: Whether to write; False on processes that do not write files.
    """

    def __init__(self, folder: str, write: bool = True):
        self._writer = None
        if not write:
            return
        try:
            import tensorboard  # noqa: F401  (without it, tf.summary would fail later)
            import tensorflow as tf
        except ImportError:
            return
        self._summary, self._writer = tf.summary, tf.summary.create_file_writer(folder)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars by name."""
        if self._writer is not None:
            with self._writer.as_default(step=step):
                for name, value in scalars.items():
                    self._summary.scalar(name, value)

    def draw(self, step: int, images: Mapping[str, "np.ndarray"]) -> None:
        """Writes images by name, uint8 of shape (height, width, 3)."""
        if self._writer is not None:
            with self._writer.as_default(step=step):
                for name, image in images.items():
                    self._summary.image(name, image[None])

    def flush(self) -> None:
        """Flushes buffered events to the disk."""
        if self._writer is not None:
            self._writer.flush()


def plot(path: str, title: str, rows: list[dict]) -> None:
    """Draws loss, accuracy and learning rate over the epochs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    loss, accuracy, rate = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in rows]
    marker = "o" if len(rows) < 3 else None  # a line needs two points
    # Fixed places for the legends: matplotlib's search for the best place may take more than a second and then warns.
    for axis, name, scale, place in ((loss, "loss", 1, "upper right"), (accuracy, "top1", 100, "lower right")):
        axis.plot(epochs, [scale * row[name] for row in rows], color="0.6", marker=marker, label="training")
        axis.plot(epochs, [scale * row[f"val_{name}"] for row in rows], color="C0", marker=marker, label="validation")
        axis.legend(frameon=False, fontsize=9, loc=place)
    best = max(rows, key=lambda row: row["val_top1"])
    accuracy.annotate(
        f"{100 * best['val_top1']:.1f}", (best["epoch"], 100 * best["val_top1"]), color="C0", fontsize=9,
        xytext=(0, 4), textcoords="offset points", ha="center",
    )  # fmt: skip
    rate.plot(epochs, [row["lr"] for row in rows], color="C1", marker=marker)
    rate.set_ylim(bottom=0)
    for axis, label in ((loss, "loss"), (accuracy, "top-1, %"), (rate, "learning rate")):
        style_epochs(axis, label)
    write_figure(path, figure)


def style_epochs(axis, title: str) -> None:
    """Sets title and style of a matplotlib axis over the epochs."""
    from matplotlib.ticker import MaxNLocator

    axis.set_title(title, fontsize=10)
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def plot_runs(path: str, curves: Mapping[str, Sequence[Sequence[dict]]]) -> None:
    """Draws validation top-1 over the epochs.

    Args:
        path: Path of the figure.
        curves: Histories of runs by title; each title has a color, and each run a line.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for number, (title, histories) in enumerate(curves.items()):
        for first, history in enumerate(histories):
            axis.plot(
                [row["epoch"] for row in history], [100 * row["val_top1"] for row in history], color=f"C{number}",
                linewidth=1.2, alpha=0.8, label=None if first else title,
            )  # fmt: skip
    style_epochs(axis, "validation top-1, %")
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    write_figure(path, figure)


def opening(run) -> str:
    """Formats the line that a run prints before its first step."""
    train, val = run.data["train"], run.data["val"]
    return (
        f"{run.config.name}, recipe {run.recipe.name}: {run.recipe.epochs} epochs of {run.steps_per_epoch} steps of "
        f"{run.recipe.batch_size}; {train.count} photos of {len(train.classes)} classes to train on, {val.count} to "
        f"validate; seed {run.config.seed}"
    )


def closing(run, facts: dict) -> str:
    """Formats the lines that a run prints at its end."""
    best, last = facts["best"], facts["last"]
    lines = [
        "",
        f"done: top-1 {100 * last['val_top1']:.2f}%, top-5 {100 * last['val_top5']:.2f}% on {run.data['val'].count} "
        f"validation photos (best {100 * best['val_top1']:.2f}% after epoch {best['epoch']})",
    ]
    if facts["bad_images"]:
        lines.append(f"  skipped  {counted(UNDECODABLE, facts['bad_images'])}, all named in run.json")
    lines += [
        f"  model    {facts['models']['last']}",
        f"  best     {facts['models']['best']}",
        f"  curves   {facts['plot'] or 'none'}",
        f"  history  {join(run.config.run_dir, 'history.csv')}",
    ]
    if is_local(run.config.run_dir):  # the converter only reads local files
        lines.append(_next_line(run, facts))
    return "\n".join(lines)


def _next_line(run, facts: dict) -> str:
    """Formats the command that converts the model, to int8 too if training photos are available for calibration."""
    named = all(name.strip() == name and name.isprintable() for name in run.data["train"].classes)
    return next_line(
        "convert",
        keras_model=facts["models"]["last"],
        embed_labels=join(run.config.run_dir, class_names.FILE) if named else None,
        **(facts["calibration"] or {"recipes": "float32"}),
        output_dir=join(run.config.run_dir, "tflite"),
    )
