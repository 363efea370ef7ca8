"""Results of a fine-tuning with random predictions."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from fd_keras.training.finetune.results import Candidate, ClassCount, FileFacts, FinetuneResults, Measured


def answers(
    labels: Sequence[int], classes: int, paths: Sequence[str] = (), lean: float = 1.5, seed: int = 0
) -> Measured:
    """Returns random probabilities that prefer the correct class."""
    truth = np.array(labels, "int64")
    logits = np.random.default_rng(seed).normal(size=(len(truth), classes)) + lean * np.eye(classes)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return Measured(paths or [f"photos/{i}.jpg" for i in range(len(truth))], truth, probabilities.astype("float32"))


def file_facts(path: str, recipe: str) -> FileFacts:
    return FileFacts(path, recipe, size_bytes=195_432, ram_bytes=305_152, agreement=97.5, ties=3, milliseconds=1.234)


def results_of(names: Sequence[str], measured: Measured | None = None, **others) -> FinetuneResults:
    """Returns results in which fine-tuning beats a linear head."""
    measured = measured or answers([i % len(names) for i in range(4 * len(names))], len(names))
    worse = answers(measured.labels.tolist(), len(names), measured.paths, lean=0.5)
    held_out = np.bincount(measured.labels, minlength=len(names)).tolist()
    results = FinetuneResults(
        name="net", network="FD-MobileNet 0.25x", image_size=64, photos="photos", output_dir="mine",
        counts=[ClassCount(name, 10 + label, held_out[label]) for label, name in enumerate(names)],
        notes=["3 photos are there twice."], warnings=[],
        candidates=[Candidate("linear head", worse, False), Candidate("fine-tuned", measured, True)],
        how_measured=f"on {len(measured.labels)} held-out photos",
        trained_on="The files were trained on all photos.", keras_file="mine/net.keras",
        files=[file_facts("mine/net_float32.tflite", "float32"), file_facts("mine/net_int8.tflite", "int8")],
        macs=11_800_000, parameters=245_678, settings={"steps": "600"},
        command="fd-keras finetune photos --output_dir=mine",
        next_commands=[("Time it on a phone", "fd-keras bench --models=mine")], versions={"keras": "3.15.0"},
    )  # fmt: skip
    return dataclasses.replace(results, **others)
