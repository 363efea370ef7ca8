"""What to measure: which models, on how many threads, how often and in which order."""

import hashlib
import itertools
import json
import math
import os
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every TFLite flatbuffer
MOST_THREADS = 256  # many thousands crash the interpreter
BASELINE_FAMILY = "fd_mobilenet"
# What a row repeats of the sidecar. `size` is [height, width] of the images; `accuracy` is {"top1": percent, "images":
# number}, as measured of the file; `paper_top1` is what the paper prints for the float network.
FACTS = ("arch", "alpha", "size", "groups", "macs", "parameters", "weights", "accuracy", "paper_top1")
_TYPES = {"arch": (str, "text"), "alpha": (int | float, "a number"), "size": (list, "[height, width]")}
DELEGATES = ("xnnpack", "none", "gpu", "nnapi")
EXTRAS = ("profile", "memory")
ANY_CORE = "any"
_NAME_AND_RECIPE = re.compile(r"(?P<name>.+?)_(?P<recipe>(?:float\d|u?int\d|dynamic).*)")


class BenchError(Exception):
    """What stops a measurement, in words for the user: what is wrong with which file, and the way out."""


@dataclass(frozen=True)
class Model:
    """A `.tflite` file that looks like one.

    Attributes:
        path: The file.
        name: The network, such as `model_name` gives it.
        recipe: How it was quantized; empty where neither the sidecar nor the file's name tells.
        size_bytes: Size of the file.
        sha256: Hash of the file, hexadecimal.
        facts: The entries of the sidecar that are named in `FACTS`.
    """

    path: Path
    name: str
    recipe: str
    size_bytes: int
    sha256: str
    facts: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def label(self) -> str:
        """Name and recipe in one word, the stem that a converted file has."""
        return join_label(self.name, self.recipe)


class Job(NamedTuple):
    """One model in one configuration.

    Attributes:
        model: What to run.
        threads: Number of interpreter threads.
        delegate: One of `DELEGATES`; `none` are TFLite's own kernels.
        core: `big`, `little`, a hexadecimal mask of cores, or `any`.
    """

    model: Model
    threads: int = 1
    delegate: str = "xnnpack"
    core: str = ANY_CORE


class Visit(NamedTuple):
    """One launch of a plan: which round, which place in it, what; `kind` is `time` or one of `EXTRAS`."""

    round: int
    place: int
    job: Job
    kind: str = "time"

    @property
    def key(self) -> tuple:
        """What tells this visit from the others of the plan; see `rows.Row.key`."""
        job = self.job
        return (self.kind, self.round, job.model.label, job.threads, job.delegate, job.core)


@dataclass(frozen=True)
class Plan:
    """Every model in every configuration, once per round.

    Attributes:
        models: The models to compare.
        threads: Numbers of interpreter threads, each from 1 to `MOST_THREADS`.
        delegates: Some of `DELEGATES`.
        cores: Where to run; see `Job.core`.
        extras: Some of `EXTRAS`: launches after the rounds that tell more and may disturb the times.
        rounds: How many times to go round all models.
        runs: Timed invocations of a model per round, at least.
        min_secs: Seconds of timed invocations of a model per round, at least.
        warmup: Untimed invocations before the timed ones, in each round.
        repeats: How often a visit whose time cannot be trusted is made again.
        seed: Seed of the order within the rounds.

    Raises:
        BenchError: If a value is out of range.
    """

    models: tuple[Model, ...]
    threads: tuple[int, ...] = (1,)
    delegates: tuple[str, ...] = ("xnnpack",)
    cores: tuple[str, ...] = (ANY_CORE,)
    extras: tuple[str, ...] = ()
    rounds: int = 10
    runs: int = 10
    min_secs: float = 0.3
    warmup: int = 3
    repeats: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(1, threads=min(self.threads, default=0), rounds=self.rounds, runs=self.runs)
        if max(self.threads) > MOST_THREADS:
            raise BenchError(f"threads must be at most {MOST_THREADS}, not {max(self.threads)}")
        at_least(0, warmup=self.warmup, min_secs=self.min_secs, repeats=self.repeats)
        _among("delegate", self.delegates, DELEGATES)
        _among("extra launch", self.extras, EXTRAS)
        for core in self.cores:
            if not re.fullmatch(rf"big|little|{ANY_CORE}|(0x)?[0-9a-fA-F]+", core) or not core.strip("0x"):
                raise BenchError(f"core must be big, little, {ANY_CORE} or a hexadecimal mask such as 80, not {core!r}")

    @property
    def jobs(self) -> list[Job]:
        """What one round measures."""
        axes = (self.models, self.threads, self.delegates, self.cores)
        return [Job(*values) for values in itertools.product(*map(dict.fromkeys, axes))]

    def schedule(self) -> Iterator[Visit]:
        """Yields what to measure, rounds and places from 1; each round has an order of its own.

        The machine drifts (clock, heat, neighbours). Going round all models again and again spreads the drift
        over all of them, and the changing order keeps one model from always following the same other.
        """
        rng = random.Random(self.seed)
        for number in range(1, self.rounds + 1):
            jobs = self.jobs
            rng.shuffle(jobs)
            for place, job in enumerate(jobs, 1):
                yield Visit(number, place, job)
        for kind in self.extras:
            for place, job in enumerate(self.jobs, 1):
                yield Visit(self.rounds + 1, place, job, kind)

    def options(self) -> dict[str, Any]:
        """Returns everything but the models, for the records."""
        return {name: getattr(self, name) for name in OPTIONS}

    def identity(self, *where: str) -> str:
        """Returns a short hash that two runs share if one can continue the other.

        Args:
            where: What else must be the same: device, interpreter, ...
        """
        content = [self.options(), sorted((model.label, model.sha256) for model in self.models), where]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


OPTIONS = tuple(option.name for option in fields(Plan) if option.name != "models")


def join_label(name: str, recipe: str) -> str:
    """Returns `<name>_<recipe>`, or the name alone where the recipe is not known."""
    return f"{name}_{recipe}" if recipe else name


def find_models(spec: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Finds `.tflite` files.

    Args:
        spec: A folder, a file, several of them separated by commas, or an iterable of folders and files.

    Returns:
        The files in the order named, those of a folder by name, each once.

    Raises:
        BenchError: If one of them does not exist, or a folder holds no `.tflite` file.
    """
    unique: dict[Path, Path] = {}
    for part in _parts(spec):
        for path in _expand(Path(part).expanduser()):
            unique.setdefault(path.resolve(), path)
    if not unique:
        raise BenchError("no model is named: give a folder of .tflite files, or the files")
    return list(unique.values())


def split_list(text: str) -> tuple[str, ...]:
    """Returns the words of a comma list."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def parse_threads(text: str) -> tuple[int, ...]:
    """Returns the whole numbers of a comma list.

    Raises:
        BenchError: If there is anything else in it.
    """
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise BenchError(f"threads must be whole numbers separated by commas, not {text!r}") from None


def read_models(paths: Iterable[Path]) -> tuple[list[Model], list[str]]:
    """Reads models, and goes on past broken ones.

    Returns:
        The models that could be read, and one message for each that could not.

    Raises:
        BenchError: If two files bear the same name and recipe, as their rows could not be told apart.
    """
    models: dict[str, Model] = {}
    failures = []
    for path in paths:
        try:
            model = read_model(path)
        except BenchError as error:
            failures.append(str(error))
            continue
        if other := models.get(model.label):
            raise BenchError(f"{other.path} and {path} are both called {model.label}: rename one of them")
        models[model.label] = model
    return list(models.values()), failures


def read_model(path: Path) -> Model:
    """Reads a `.tflite` file and its sidecar, `<same stem>.json`, if there is one.

    Raises:
        BenchError: If the file cannot be read or is no TFLite flatbuffer, or the sidecar is broken.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}") from error
    if content[4:8] != IDENTIFIER:
        raise BenchError(f"{path}: {_what_instead(content)}: convert or copy it again")
    sidecar = _read_sidecar(path.with_suffix(".json"))
    name, recipe = _name_and_recipe(path.stem, sidecar)
    facts = {key: sidecar[key] for key in FACTS if key in sidecar}
    return Model(path, name, recipe, len(content), hashlib.sha256(content).hexdigest(), facts)


def choose_baseline(models: Sequence[Model], name: str | None = None) -> Model:
    """Chooses the model that the others are compared with.

    Args:
        models: The models to choose from.
        name: A file's name, a label or a model's name (then its first recipe). Without it the first
            FD-MobileNet is chosen, a float32 one if there is one, or else the first model.

    Raises:
        BenchError: If no model bears the name, or there is none at all.
    """
    if not models:
        raise BenchError("no model is left to time")
    if name is None:
        return min(models, key=lambda model: (not model.name.startswith(BASELINE_FAMILY), model.recipe != "float32"))
    for model in models:
        if name.removesuffix(".tflite") in (model.label, model.path.stem, model.name):
            return model
    known = ", ".join(model.label for model in models)
    raise BenchError(f"no model called {name} to compare with: choose the baseline from {known}")


def at_least(least: int, **values: float) -> None:
    """Raises BenchError unless all values are numbers of at least `least`."""
    for name, value in values.items():
        if not (math.isfinite(value) and value >= least):
            raise BenchError(f"{name} must be a number of at least {least}, not {value}")


def _among(what: str, values: Sequence[str], known: Sequence[str]) -> None:
    for value in values:
        if value not in known:
            raise BenchError(f"there is no {what} {value!r}: choose from {', '.join(known)}")


def _parts(spec: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str | os.PathLike[str]]:
    if isinstance(spec, os.PathLike):
        return [spec]
    if not isinstance(spec, str):
        return list(spec)
    if os.path.exists(spec):  # a path may hold a comma of its own
        return [spec]
    return [part.strip() for part in spec.split(",") if part.strip()]


def _expand(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.glob("*.tflite") if not file.name.startswith("."))
        if not found:
            raise BenchError(f"{path}: no .tflite file in this folder: convert a model into it first")
        return found
    if not path.exists():
        raise BenchError(f"{path}: no such file or folder: check the path, or convert the model first")
    return [path]


def _what_instead(content: bytes) -> str:
    if not content:
        return "the file is empty"
    if content.lstrip()[:1] == b"<":
        return "not a TFLite model but a web page"
    return f"not a TFLite model (no {IDENTIFIER.decode()} at bytes 4 to 8)"


def _read_sidecar(path: Path) -> dict[str, Any]:
    way_out = "mend it, or delete it to have the file's name tell the model"
    try:
        sidecar = json.loads(path.read_bytes())
        json.dumps(sidecar, allow_nan=False)  # Python also reads NaN, which the rows must not hold
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}: {way_out}") from error
    except (ValueError, RecursionError) as error:
        raise BenchError(f"{path}: not JSON ({error}): {way_out}") from error
    if not isinstance(sidecar, dict):
        raise BenchError(f"{path}: a JSON object is expected here: {way_out}")
    for key, (kind, words) in _TYPES.items():
        if not isinstance(sidecar.get(key), kind | None):
            raise BenchError(f"{path}: {key} must be {words}, not {sidecar[key]!r}: {way_out}")
    return sidecar


def _name_and_recipe(stem: str, sidecar: dict[str, Any]) -> tuple[str, str]:
    """Takes the recipe from the sidecar if it names one, or else from the end of the stem."""
    recipe = sidecar.get("recipe")
    if isinstance(recipe, str) and recipe:
        return stem.removesuffix(f"_{recipe}"), recipe
    match = _NAME_AND_RECIPE.fullmatch(stem)
    return (match["name"], match["recipe"]) if match else (stem, "")
