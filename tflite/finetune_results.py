"""Gathers the results of a fine-tuning for its report, for the terminal and for run.json."""

import dataclasses
import os
import shlex
import sys
from collections import Counter
from collections.abc import Sequence

from fd_keras import weights as weights_lib
from fd_keras.cost import profile
from fd_keras.io import join
from fd_keras.next_step import command
from fd_keras.tflite.memory.byte_sizes import kib
from fd_keras.training import run_record
from fd_keras.training.finetune import metrics
from fd_keras.training.finetune.candidates import FinetuneNetwork
from fd_keras.training.finetune.finetuning import Finetuned
from fd_keras.training.finetune.preparation import Prepared
from fd_keras.training.finetune.results import Candidate, ClassCount, FileFacts, FinetuneResults

REPORT = "report.html"
_DISAGREEING = 98.0  # percent; an int8 file with less agreement gets a warning


def gather(
    network: FinetuneNetwork,
    photos: str,
    folder: str,
    prepared: Prepared,
    found: Finetuned,
    keras_file: str,
    files: Sequence[FileFacts],
) -> FinetuneResults:
    """Gathers the results that the report shows."""
    sides = [Counter(label for _, label in side) for side in (prepared.split.train, prepared.split.held_out)]
    counts = [ClassCount(name, *(side[label] for side in sides)) for label, name in enumerate(network.classes)]
    cost = profile(found.model)
    shown = [_with_originals(candidate, prepared) for candidate in found.candidates]
    return FinetuneResults(
        name=network.name,
        network=f"{network.arch.title} {network.alpha:g}x",
        image_size=network.image_size,
        photos=photos,
        output_dir=folder,
        counts=counts,
        notes=prepared.notes,
        warnings=[*found.warnings, *_of_files(files)],
        candidates=shown,
        how_measured=found.how_measured,
        trained_on=found.trained_on,
        keras_file=keras_file,
        files=files,
        macs=cost.macs,
        parameters=cost.parameters,
        settings={"initial weights": weights_lib.license_of(network.weights), **found.settings},
        command=shlex.join(["fd-keras", "finetune", *sys.argv[1:]]),
        next_commands=_next(folder, _photo(shown), files),
        versions=run_record.origin()["versions"],
    )


def _with_originals(candidate: Candidate, prepared: Prepared) -> Candidate:
    """Replaces the paths of our copies in a candidate with those of the user's files."""
    measured = candidate.measured  # only these photos are shown
    paths = [prepared.originals[path] for path in measured.paths]
    return dataclasses.replace(candidate, measured=dataclasses.replace(measured, paths=paths))


def _of_files(files: Sequence[FileFacts]) -> list[str]:
    return [
        f"{os.path.basename(file.path)} predicts another class than the Keras model on {100 - file.agreement:.1f}% of "
        "the held-out photos; add more photos, which are also used for calibration."
        for file in files
        if file.agreement < _DISAGREEING
    ]


def _photo(candidates: Sequence[Candidate]) -> str:
    """Path of a photo to try, one of those on which the chosen candidate was measured."""
    return next(one for one in candidates if one.chosen).measured.paths[0]


def _try(photo: str, model: str) -> str:
    return command("classify", photo, model=model, upright=True)


def _next(folder: str, photo: str, files: Sequence[FileFacts]) -> list[tuple[str, str]]:
    """Suggested next steps, as (purpose, command)."""
    small = files[-1].path
    listed = ",".join(file.path for file in files)
    return [
        ("Try a photo", _try(photo, small)),
        ("Try it with a phone's camera", command("page", small, phone=True)),
        ("Time the files on a phone over adb", command("bench", models=folder, fetch_binary=True)),
        ("Put it on a microcontroller", command("export-mcu", small, output_dir=join(folder, "microcontroller"))),
        ("Compare the files with Keras again", command("verify", tflite=listed, run_dir=folder)),
    ]


def training_text(results: FinetuneResults) -> str:
    """Describes the training data and the accuracy, for the model card."""
    photos = sum(count.train for count in results.counts)
    return (
        f"{photos:,} photos. {results.trained_on} "
        f"{results.chosen.title.capitalize()}: {metrics.top1_text(results.chosen.measured)} {results.how_measured}."
    )


def closing(results: FinetuneResults, card: str) -> str:
    """Formats the lines that the program prints at the end.

    Args:
        results: Results of the fine-tuning.
        card: Path of the model card.
    """
    lines = [
        "",
        f"done: {results.chosen.title}, {metrics.top1_text(results.chosen.measured)} {results.how_measured}",
        *(f"warning: {warning}" for warning in results.warnings),
        f"  keras    {results.keras_file}",
        *(f"  {file.recipe:8} {_described(file)}" for file in results.files),
        f"  report   {os.path.abspath(join(results.output_dir, REPORT))}",
        f"  card     {card}",
        f"  camera   {results.next_commands[1][1]}",
        f"next: {results.next_commands[0][1]}",
    ]
    return "\n".join(lines)


def _described(file: FileFacts) -> str:
    ram = f", {kib(file.ram_bytes)} of RAM" if file.ram_bytes is not None else ""
    same = f"the same class as Keras on {file.agreement:.1f}%"
    return f"{file.path}  {file.size_bytes / 1e3:,.0f} kB{ram}, {file.milliseconds:.2f} ms here, {same}"


def summary(results: FinetuneResults) -> dict:
    """The results that are stored in run.json."""
    measured = results.chosen.measured
    return {
        "kept": results.chosen.title,
        "top1": measured.top1,
        "photos": len(measured.labels),
        "candidates": {one.title: one.measured.top1 for one in results.candidates},
        "how_measured": results.how_measured,
        "warnings": list(results.warnings),
        "initial weights": results.settings["initial weights"],
        "files": [dataclasses.asdict(file) for file in results.files],
        "photo": os.path.relpath(_photo(results.candidates), results.photos),
    }


def already_done(folder: str, photos: str, result: dict) -> str:
    """Formats the lines for a fine-tuning that was already finished.

    Args:
        folder: Output folder, which may have been moved.
        photos: Folder of the photos, which may have been moved.
        result: The `summary` in run.json.
    """
    report = os.path.abspath(join(folder, REPORT))
    small = join(folder, os.path.basename(result["files"][-1]["path"]))
    return (
        f"{folder} is finished: {result['kept']}, top-1 {100 * result['top1']:.1f}% {result['how_measured']}. Pass "
        f"another --output_dir to train again.\n  report   {report}\nnext: {_try(join(photos, result['photo']), small)}"
    )
