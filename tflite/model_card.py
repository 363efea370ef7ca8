"""Model cards: what a network's .tflite files are, in Markdown as Hugging Face reads it.

A card is made from the .json beside each file alone, so it holds what was measured and nothing else; write it again
after `fd-keras verify --record`.
"""

import os
import re
import shlex
from collections.abc import Sequence

from fd_keras import imagenet, weights, zoo
from fd_keras.io import printable, write_atomically
from fd_keras.sidecar import read_sidecar
from fd_keras.tflite.format import flatbuffer
from fd_keras.tflite.memory.arena import plan, tflm_bytes
from fd_keras.tflite.memory.byte_sizes import kib

_MOST_NAMES = 30  # class names that a card lists
_HEADER = """\
---
library_name: litert
pipeline_tag: image-classification
tags: [fd_keras, keras, litert, tflite{tag}]
license: {license}
---
"""


def write(paths: Sequence[str], *, training: str = "", license_text: str = "") -> str:
    """Writes the card of a network beside its files; returns its path, NAME.md.

    Args:
        paths: The .tflite files of one network, each with its .json beside it.
        training: What the network was trained on and how that was measured, one or more sentences; "" if unknown.
        license_text: License of the weights, if the files do not say which published ones they have.

    Raises:
        ValueError: If a file has no .json, or a damaged one.
        OSError: If the card cannot be written.
    """
    files = [_facts(path) for path in paths]
    path = os.path.join(os.path.dirname(paths[0]), f"{files[0]['name']}.md")
    write_atomically(path, text(files, training, license_text).encode())
    return path


def _facts(path: str) -> dict:
    facts = read_sidecar(path)
    if facts is None:
        raise ValueError(f"{path}: has no .json beside it; convert the model again.")
    network = flatbuffer.read(path).network
    integers = facts.get("calibration") is not None
    return facts | {
        "file": os.path.basename(path),
        "bytes": os.path.getsize(path),
        "ram": plan(network).arena + tflm_bytes(network) if integers else None,
    }


def text(files: Sequence[dict], training: str = "", license_text: str = "") -> str:
    """The card of files with these facts, see `write`."""
    first = files[0]
    parts = [
        _header(first, license_text),
        f"# {_escaped(str(first['name']))}",
        f"{_network(first)}, {first['macs'] / 1e6:.1f} million multiply-accumulates and {first['parameters']:,} "
        "parameters.",
        _use(first),
        _section("Files", _files(files)),
        _section("Training data", training or _trained(first)),
        _section("Input and output", _interface(files)),
        _section("How to run", _how_to_run(first)),
        _section("Limits", _LIMITS),
        _section("License of the weights", license_text or _license(first)),
    ]
    return "\n\n".join(parts) + "\n"


_LIMITS = (
    "The network names one of its classes for every photo, also for photos of something else. Its accuracy holds for "
    "photos like those it was measured on: measure it on photos of your own camera before you rely on it. Do not use "
    "it for decisions about people or where a mistake is dangerous."
)


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}"


def _header(facts: dict, license_text: str) -> str:
    arch = facts.get("arch")
    short = "mit" if "MIT" in (license_text or _license(facts)) else "unknown"
    return _HEADER.format(tag=f", {arch}" if arch in zoo.ARCHS else "", license=short).rstrip()


def _network(facts: dict) -> str:
    height, width = facts["input"]["shape"][1:3]
    arch = facts.get("arch")
    title = zoo.get_arch(arch).title if arch in zoo.ARCHS else "A network"
    width_text = f" {facts['alpha']:g}x" if arch in zoo.ARCHS and facts.get("alpha") else ""
    return f"{title}{width_text} for images of {height} x {width} pixels"


def _use(facts: dict) -> str:
    names = facts.get("class_names")
    if not names:
        return f"It classifies photos into {facts['classes']:,} classes."
    listed = ", ".join(_escaped(name) for name in names[:_MOST_NAMES])
    more = f" and {len(names) - _MOST_NAMES} others" if len(names) > _MOST_NAMES else ""
    return f"It classifies photos into {len(names):,} classes: {listed}{more}."


def _files(files: Sequence[dict]) -> str:
    head = [
        "| file | type | size | RAM on a microcontroller | top-1 | top-5 | same class as the Keras model |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    notes = sorted({note for facts in files if (note := _measured(facts))})
    return "\n".join([*head, *map(_row, files), *(f"\n{note}" for note in notes)])


def _row(facts: dict) -> str:
    measured = facts.get("accuracy") or {}
    figures = [_percent(measured.get(key)) for key in ("top1", "top5", "agreement")]
    ram = "" if facts["ram"] is None else kib(facts["ram"])
    name = _escaped(facts["file"])
    return f"| {name} | {facts['recipe']} | {facts['bytes'] / 1e3:,.0f} kB | {ram} | {' | '.join(figures)} |"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}%"


def _measured(facts: dict) -> str:
    measured = facts.get("accuracy")
    if not measured:
        return "Accuracy was not measured; `fd-keras verify --record` measures it."
    also = ", which the network was also trained on in the end" if measured.get("trained_on_these") else ""
    return f"Measured on {measured['images']:,} photos{also}."


def _trained(facts: dict) -> str:
    if facts.get("weights") in weights.COLLECTIONS:
        return "ImageNet (ILSVRC 2012), 1.28 million photos, by the publisher of the weights."
    return "Not recorded."


def _interface(files: Sequence[dict]) -> str:
    lines = []
    for facts in files:
        source, result = facts["input"], facts["output"]
        shape = " x ".join(map(str, source["shape"]))
        pixels = "raw RGB, 0 to 255" if facts["include_preprocessing"] else "normalized RGB"
        answer = f"gives {result['dtype']}, one score for each class"
        lines.append(f"- {facts['recipe']}: takes {source['dtype']} {shape}, {pixels}; {answer}.")
    return "\n".join(lines)


def _how_to_run(facts: dict) -> str:
    size = facts["input"]["shape"][1:3]
    resized = " x ".join(map(str, imagenet.resize_target(size)))
    call = shlex.join(["fd-keras", "classify", f"--model={printable(facts['file'])}", "--upright", "photo.jpg"])
    return (
        f"    {call}\n\n"
        f"In your own code: resize the photo until it just covers {resized} pixels (bilinear, with antialiasing), and "
        f"crop the central {' x '.join(map(str, size))}."
    )


def _license(facts: dict) -> str:
    """The license of published weights; what to do about others."""
    for checkpoint in weights.CHECKPOINTS:
        network = (checkpoint.collection, checkpoint.arch, checkpoint.alpha)
        if network == (facts.get("weights"), facts.get("arch"), facts.get("alpha")):
            return f"{checkpoint.license} ({checkpoint.url})"
    return "That of the weights that training started from, and of your photos."


def _escaped(name: str) -> str:
    """A name from outside as plain text in Markdown."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|<>&~])", r"\\\1", printable(name))
