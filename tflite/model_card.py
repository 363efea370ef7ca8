"""Writes model cards for .tflite files, in Hugging Face's Markdown format.

A card contains only facts from the .json beside each file, so its figures were all measured.
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

_MOST_NAMES = 30  # maximum number of class names in a card
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
        paths: Paths of the .tflite files of one network, each with its .json beside it.
        training: Description of the training data and the accuracy, as sentences; "" if unknown.
        license_text: License of the weights; "" to derive it from the published weights that the .json files name.

    Raises:
        ValueError: If a file's .json is missing or damaged.
        OSError: If the card cannot be written.
    """
    files = [_facts(path) for path in paths]
    path = os.path.join(os.path.dirname(paths[0]), f"{files[0]['name']}.md")
    write_atomically(path, text(files, training, license_text).encode())
    return path


def _facts(path: str) -> dict:
    facts = read_sidecar(path)
    if facts is None:
        raise ValueError(f"{path}: its .json is missing; convert the model again.")
    network = flatbuffer.read(path).network
    integers = facts.get("calibration") is not None
    return facts | {
        "file": os.path.basename(path),
        "bytes": os.path.getsize(path),
        "ram": plan(network).arena + tflm_bytes(network) if integers else None,
    }


def text(files: Sequence[dict], training: str = "", license_text: str = "") -> str:
    """Formats the card for files with these facts; see `write` for the arguments."""
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
    "The network assigns one of its classes to every photo, even if the photo shows something else. The accuracy holds "
    "for photos like those it was measured on; measure it on photos from your own camera before you rely on it. Do not "
    "use it for decisions about people, or where a mistake is dangerous."
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
        return "The accuracy has not been measured; `fd-keras verify --record` measures it."
    also = ", which were finally used for training too" if measured.get("trained_on_these") else ""
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
        answer = f"returns {result['dtype']}, one score for each class"
        lines.append(f"- {facts['recipe']}: takes {source['dtype']} {shape}, {pixels}; {answer}.")
    return "\n".join(lines)


def _how_to_run(facts: dict) -> str:
    size = facts["input"]["shape"][1:3]
    resized = " x ".join(map(str, imagenet.resize_target(size)))
    call = shlex.join(["fd-keras", "classify", f"--model={printable(facts['file'])}", "--upright", "photo.jpg"])
    return (
        f"    {call}\n\n"
        f"In your own code, resize the photo to the smallest size that covers {resized} pixels (bilinear, with "
        f"antialiasing), and crop the central {' x '.join(map(str, size))}."
    )


def _license(facts: dict) -> str:
    """The license of published weights, or where to find that of others."""
    for checkpoint in weights.CHECKPOINTS:
        network = (checkpoint.collection, checkpoint.arch, checkpoint.alpha)
        if network == (facts.get("weights"), facts.get("arch"), facts.get("alpha")):
            return f"{checkpoint.license} ({checkpoint.url})"
    return "The licenses of the initial weights and of your training photos apply."


def _escaped(name: str) -> str:
    """Escapes a name from a file, so that Markdown shows it as plain text."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|<>&~])", r"\\\1", printable(name))
