"""What a detector's run shows: lines on the terminal and a plot."""

import math
from collections.abc import Container, Sequence

from fd_keras.io import join, write_figure
from fd_keras.next_step import next_line
from fd_keras.progress import bar, duration
from fd_keras.training.reporting import style_epochs, waits
from fd_keras.training.voc import dataset
from fd_keras.training.voc.detector_recipe import DetectorRecipe
from fd_keras.training.voc.retinanet_recipe import RetinaNetRecipe

# Losses that belong together, with the names that people read.
FASTER_RCNN = {
    "proposals": {"rpn_objectness": "object or not", "rpn_box": "box"},
    "RoIs": {"class": "class", "box": "box"},
}
RETINANET = {"anchors": {"class": "class", "box": "box"}}


def columns(losses: Sequence[str]) -> tuple[str, ...]:
    """The columns of history.csv."""
    return ("epoch", "step", "lr", *losses, "seconds_per_image", "input_bound", "seconds")


def _groups(losses: Container[str]) -> dict[str, dict[str, str]]:
    """The losses that belong together, of the detector that has them."""
    return FASTER_RCNN if "rpn_box" in losses else RETINANET


def opening(run) -> str:
    """The line of a run before its first step."""
    recipe, images = run.recipe, run.images
    left = f" ({images.left_out} without an object that is not difficult are left out)" if images.left_out else ""
    weights = sum(math.prod(weight.shape) for weight in run.model.trainable_weights)
    return (
        f"{run.config.name}: {recipe.epochs} epochs of {images.count} images{left} of {len(run.classes)} classes, "
        f"{_sizes(recipe)}; {weights:,} weights are "
        f"trained; seed {run.config.seed}"
    )


def _sizes(recipe: DetectorRecipe | RetinaNetRecipe) -> str:
    if isinstance(recipe, DetectorRecipe):
        return f"short side {recipe.short_side}, crops of {recipe.roi_size}"
    return f"squares of {recipe.side}, {recipe.batch_size} a step"


def step_line(epoch: str, done: int, steps: int, seconds: float, loss: float, left: float) -> str:
    """For example "epoch 3/15 [##----] 120/5011 images  0.81 s/image  loss 1.234  3 h 20 min left"."""
    return f"epoch {epoch} {bar(done, steps)} images  {seconds:.2f} s/image  loss {loss:.3f}  {duration(left)} left"


def described(losses: dict[str, float]) -> str:
    """The losses in a line."""
    parts = (
        f"{title} {' + '.join(f'{losses[name]:.3f}' for name in names)}" for title, names in _groups(losses).items()
    )
    return f"loss {losses['loss']:.3f} ({', '.join(parts)})"


def epoch_line(row: dict, epochs: int) -> str:
    """The line about an epoch that is over."""
    return (
        f"epoch {row['epoch']}/{epochs}  {described(row)}  rate {row['lr']:g}  {row['seconds_per_image']:.2f} s/image"
        f"{waits(row)}"
    )


def plot(path: str, title: str, rows: list[dict]) -> None:
    """Draws the losses and the learning rate over the epochs."""
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


def goes_on(voc_dir: str, trained_on: str, run_dir: str) -> str:
    """The line about what to do with a detector: score it on a split that it was not trained on, or convert it."""
    wanted = ("test", "val") if trained_on == "train" else ("test",)
    for path in dataset.paths_of(voc_dir):
        reader = dataset.reader(path)
        for split in wanted:
            if split in reader.splits() and reader.is_annotated(split):
                return next_line("detect evaluate", voc_dir=path, split=split, run_dir=run_dir)
    return next_line("detect convert", run_dir=run_dir, output_dir=join(run_dir, "tflite"))


def closing(run, facts: dict, voc_dir: str, split: str) -> str:
    """The lines of a run at its end, after it was trained on a split of folders."""
    return "\n".join(
        (
            "",
            f"done: {described(facts['last'])} in the last epoch",
            f"  model    {facts['model']}",
            f"  curves   {facts['plot'] or 'none'}",
            f"  history  {join(run.config.run_dir, 'history.csv')}",
            goes_on(voc_dir, split, run.config.run_dir),
        )
    )
