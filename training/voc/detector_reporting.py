"""Output of a detector's run: lines on the terminal and a plot."""

import math
from collections.abc import Container, Sequence

from fd_keras.io import join, write_figure
from fd_keras.next_step import next_line
from fd_keras.progress import bar, duration
from fd_keras.training.reporting import style_epochs, waits
from fd_keras.training.voc import dataset
from fd_keras.training.voc.detector_recipe import DetectorRecipe
from fd_keras.training.voc.retinanet_recipe import RetinaNetRecipe

# Groups of losses, with the titles and names to show.
FASTER_RCNN = {
    "proposals": {"rpn_objectness": "object or not", "rpn_box": "box"},
    "RoIs": {"class": "class", "box": "box"},
}
RETINANET = {"anchors": {"class": "class", "box": "box"}}


def columns(losses: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns of history.csv."""
    return ("epoch", "step", "lr", *losses, "seconds_per_image", "input_bound", "seconds")


def _groups(losses: Container[str]) -> dict[str, dict[str, str]]:
    """Returns the groups of losses for the detector that has these losses."""
    return FASTER_RCNN if "rpn_box" in losses else RETINANET


def opening(run) -> str:
    """Formats the line that a run prints before its first step."""
    recipe, images = run.recipe, run.images
    left = f" (skipped images with no or only difficult objects: {images.left_out})" if images.left_out else ""
    weights = sum(math.prod(weight.shape) for weight in run.model.trainable_weights)
    return (
        f"{run.config.name}: {recipe.epochs} epochs of {images.count} images{left} of {len(run.classes)} classes, "
        f"{_sizes(recipe)}; {weights:,} trainable weights; seed {run.config.seed}"
    )


def _sizes(recipe: DetectorRecipe | RetinaNetRecipe) -> str:
    if isinstance(recipe, DetectorRecipe):
        return f"short side {recipe.short_side}, crops of {recipe.roi_size}"
    return f"squares of {recipe.side}, batches of {recipe.batch_size}"


def step_line(epoch: str, done: int, steps: int, seconds: float, loss: float, left: float) -> str:
    """Formats the progress within an epoch.

    For example "epoch 3/15 [##----] 120/5011 images  0.81 s/image  loss 1.234  3 h 20 min left".

    Args:
        epoch: Number of the epoch and of all epochs, such as "3/15".
        done: Number of images done in the epoch.
        steps: Number of images in the epoch.
        seconds: Seconds per image.
        loss: Mean loss since the start of the epoch.
        left: Remaining time of the run in seconds.
    """
    return f"epoch {epoch} {bar(done, steps)} images  {seconds:.2f} s/image  loss {loss:.3f}  {duration(left)} left"


def described(losses: dict[str, float]) -> str:
    """Formats the losses on one line."""
    parts = (
        f"{title} {' + '.join(f'{losses[name]:.3f}' for name in names)}" for title, names in _groups(losses).items()
    )
    return f"loss {losses['loss']:.3f} ({', '.join(parts)})"


def epoch_line(row: dict, epochs: int) -> str:
    """Formats the end-of-epoch line."""
    return (
        f"epoch {row['epoch']}/{epochs}  {described(row)}  rate {row['lr']:g}  {row['seconds_per_image']:.2f} s/image"
        f"{waits(row)}"
    )


def plot(path: str, title: str, rows: list[dict]) -> None:
    """Plots the losses and the learning rate over the epochs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    titles = {"total loss": {"loss": None}, **_groups(rows[0]), "learning rate": {"lr": None}}
    epochs = [row["epoch"] for row in rows]
    marker = "o" if len(rows) < 3 else None  # a line needs two points
    for axis, (label, curves) in zip(figure.subplots(1, len(titles)), titles.items(), strict=True):
        for name, legend in curves.items():
            axis.plot(epochs, [row[name] for row in rows], marker=marker, label=legend)
        if any(curves.values()):
            axis.legend(frameon=False, fontsize=9, loc="upper right")
        style_epochs(axis, label)
        axis.set_ylim(bottom=0)
    write_figure(path, figure)


def next_command(voc_dir: str, trained_on: str, run_dir: str) -> str:
    """Formats the next command: evaluation on a split that was not trained on, or conversion if there is none."""
    wanted = ("test", "val") if trained_on == "train" else ("test",)
    for path in dataset.paths_of(voc_dir):
        reader = dataset.reader(path)
        for split in wanted:
            if split in reader.splits() and reader.is_annotated(split):
                return next_line("detect evaluate", voc_dir=path, split=split, run_dir=run_dir)
    return next_line("detect convert", run_dir=run_dir, output_dir=join(run_dir, "tflite"))


def closing(run, facts: dict, voc_dir: str, split: str) -> str:
    """Formats the lines that a run prints at its end.

    Args:
        run: Finished run.
        facts: Results of the run.
        voc_dir: Data sets that it was trained on, comma-separated.
        split: Split that it was trained on.
    """
    return "\n".join(
        (
            "",
            f"done: {described(facts['last'])} in the last epoch",
            f"  model    {facts['model']}",
            f"  curves   {facts['plot'] or 'none'}",
            f"  history  {join(run.config.run_dir, 'history.csv')}",
            next_command(voc_dir, split, run.config.run_dir),
        )
    )
