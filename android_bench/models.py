"""The .tflite files to time, and their sidecars."""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import schema
from .errors import BenchError

IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every TFLite flatbuffer
BASELINE_FAMILY = "fd_mobilenet"
# Keys of the sidecar that are copied to rows. `size` is [height, width] of the images; `accuracy` is {"top1": percent,
# "images": number}, as measured on this file; `paper_top1` is the paper's accuracy of the float network.
FACTS = ("arch", "alpha", "size", "groups", "macs", "parameters", "weights", "accuracy", "paper_top1")
_LARGEST_MODEL, _LARGEST_SIDECAR = 1 << 31, 1 << 20  # bytes; a flatbuffer has at most 2 GB
_NAME_AND_RECIPE = re.compile(r"(?P<name>.+?)_(?P<recipe>(?:float\d|u?int\d|dynamic).*)")


@dataclass(frozen=True)
class ModelFile:
    """A .tflite file and the facts in its sidecar.

    Attributes:
        path: The file.
        name: Name of the network, in the format of `model_name`.
        recipe: Quantization recipe; empty if neither the sidecar nor the file name contains it.
        size_bytes: Size of the file.
        sha256: Hash of the file, hexadecimal.
        facts: Sidecar entries with keys in `FACTS`.
    """

    path: Path
    name: str
    recipe: str
    size_bytes: int
    sha256: str
    facts: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def label(self) -> str:
        """Name and recipe as one word, which is the stem of a converted file."""
        return f"{self.name}_{self.recipe}" if self.recipe else self.name


def find_models(spec: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Finds .tflite files.

    Args:
        spec: A folder, a file, several of them separated by commas, or an iterable of folders and files.

    Returns:
        The files without duplicates, in the given order; files of a folder sorted by name.

    Raises:
        BenchError: If a path does not exist, or a folder has no .tflite file.
    """
    unique: dict[Path, Path] = {}
    for part in _parts(spec):
        for path in _expand(Path(part).expanduser()):
            unique.setdefault(path.resolve(), path)
    if not unique:
        raise BenchError("no models given; name a folder of .tflite files, or the files")
    return list(unique.values())


def read_models(paths: Iterable[Path]) -> tuple[list[ModelFile], list[str]]:
    """Reads models, and skips invalid ones.

    Returns:
        The valid models, and one message for each invalid file.

    Raises:
        BenchError: If two files have the same name and recipe, since their rows could not be distinguished.
    """
    models: dict[str, ModelFile] = {}
    failures = []
    for path in paths:
        try:
            model = read_model(path)
        except BenchError as error:
            failures.append(str(error))
            continue
        if other := models.get(model.label):
            raise BenchError(f"{other.path} and {path} are both called {model.label}; rename one of them")
        models[model.label] = model
    return list(models.values()), failures


def read_model(path: Path) -> ModelFile:
    """Reads a .tflite file and its sidecar `<same stem>.json`, if there is one.

    Raises:
        BenchError: If the file cannot be read or is not a TFLite flatbuffer, or the sidecar is invalid.
    """
    try:
        _check_size(path, _LARGEST_MODEL)
        content = path.read_bytes()
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}") from error
    if content[4:8] != IDENTIFIER:
        raise BenchError(f"{path}: {_what_instead(content)}")
    sidecar = _read_sidecar(path.with_suffix(".json"))
    name, recipe = _name_and_recipe(path.stem, sidecar)
    facts = {key: sidecar[key] for key in FACTS if key in sidecar}
    return ModelFile(path, name, recipe, len(content), hashlib.sha256(content).hexdigest(), facts)


def choose_baseline(models: Sequence[ModelFile], name: str | None = None) -> ModelFile:
    """Chooses the model that the others are compared with.

    Args:
        models: The models to choose from.
        name: A file name, a label or a model's name (which selects its first recipe). By default, the first
            FD-MobileNet, preferably in float32, or else the first model.

    Raises:
        BenchError: If no model has this name, or there are no models.
    """
    if not models:
        raise BenchError("there are no models left to time")
    if name is None:
        return min(models, key=lambda model: (not model.name.startswith(BASELINE_FAMILY), model.recipe != "float32"))
    for model in models:
        if name.removesuffix(".tflite") in (model.label, model.path.stem, model.name):
            return model
    known = ", ".join(model.label for model in models)
    raise BenchError(f"baseline {name}: no such model; choose from {known}")


def _parts(spec: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str | os.PathLike[str]]:
    if isinstance(spec, os.PathLike):
        return [spec]
    if not isinstance(spec, str):
        return list(spec)
    if os.path.exists(spec):  # a path may contain a comma
        return [spec]
    return [part.strip() for part in spec.split(",") if part.strip()]


def _expand(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.glob("*.tflite") if not file.name.startswith("."))
        if not found:
            raise BenchError(f"{path}: no .tflite file in this folder; convert a model into it first")
        return found
    if not path.exists():
        raise BenchError(f"{path}: no such file or folder; check the path, or convert the model first")
    return [path]


def _what_instead(content: bytes) -> str:
    if not content:
        return "the file is empty; convert or copy it again"
    if content.startswith(b"PK"):
        return "a .keras file or another zip, not a TFLite model; convert it with fd-keras convert --keras_model=FILE"
    if content.lstrip()[:1] == b"<":
        return "a web page, not a TFLite model; download it again"
    return f"not a TFLite model (no {IDENTIFIER.decode()} at bytes 4 to 8); convert or copy it again"


def _read_sidecar(path: Path) -> dict[str, Any]:
    way_out = "fix it, or delete it to use the file name instead"
    try:
        _check_size(path, _LARGEST_SIDECAR)
        sidecar = json.loads(path.read_bytes())
        json.dumps(sidecar, allow_nan=False)  # Python also accepts NaN, which is not JSON
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}; {way_out}") from error
    except (ValueError, RecursionError) as error:
        raise BenchError(f"{path}: not valid JSON ({error}); {way_out}") from error
    if not isinstance(sidecar, dict):
        raise BenchError(f"{path}: not a JSON object; {way_out}")
    if wrong := schema.absurdity(sidecar) or schema.mismatch(sidecar, schema.FACTS):
        raise BenchError(f"{path}: {wrong}; {way_out}")
    return sidecar


def _check_size(path: Path, most: int) -> None:
    """Raises BenchError for anything but a regular file, such as a device, and for more than `most` bytes."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(
        status.st_mode
    ):  # for a folder, reading raises a better error
        raise BenchError(f"{path}: not a regular file; name a .tflite file or a folder of them")
    if status.st_size > most:
        raise BenchError(f"{path}: too large ({status.st_size} bytes, limit {most}); convert or copy it again")


def _name_and_recipe(stem: str, sidecar: dict[str, Any]) -> tuple[str, str]:
    """Returns name and recipe; the recipe is from the sidecar, or else from the end of the stem."""
    recipe = sidecar.get("recipe")
    if isinstance(recipe, str) and recipe:
        return stem.removesuffix(f"_{recipe}"), recipe
    match = _NAME_AND_RECIPE.fullmatch(stem)
    return (match["name"], match["recipe"]) if match else (stem, "")
