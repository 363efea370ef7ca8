"""Published ImageNet checkpoints: their addresses, hashes, licenses and accuracies; download and lookup."""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import sys
import zipfile
import zlib
from collections.abc import Sequence

from fd_keras import checkpoints
from fd_keras.io import printable, write_atomically
from fd_keras.spec import Arch, Op, lower
from fd_keras.zoo import SHUFFLENET_CHANNELS, get_arch

DIRECTORY_VARIABLE = "FD_KERAS_WEIGHTS_DIR"  # names a folder that is searched for the file before downloading


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint.

    Attributes:
        arch: Key of `zoo.ARCHS`.
        alpha: Width multiplier.
        collection: Value of `weights=` that selects the checkpoint.
        file: Name of the file that holds the weights.
        url: Address of the file, or of a zip that contains it.
        digest: Hash of `file`: "sha256:", "sha1:" or "git:" (a git blob id) and hexadecimal digits.
        license: License under which the file is published.
        top1: ImageNet validation top-1 in percent, as published.
        groups: Groups of a ShuffleNet.
        stem_multiplier: Stem width of a ShuffleNet.
    """

    arch: str
    alpha: float
    collection: str
    file: str
    url: str
    digest: str
    license: str
    top1: float | None
    groups: int | None = None
    stem_multiplier: float | None = None

    def fits(self, arch: Arch, alpha: float) -> bool:
        """Whether the checkpoint has the weights of this network."""
        if (self.arch, self.alpha) != (arch.name, alpha):
            return False
        return not arch.grouped or (self.groups, self.stem_multiplier) == (arch.groups, arch.stem_alpha(alpha))


# qinzheng93/FD-MobileNet at f453149. We hashed the 0.25x and 0.5x files; the hash of the 1x file is its git blob id
# in that repository. Top-1 from its README.
_AUTHORS_URL = (
    "https://raw.githubusercontent.com/qinzheng93/FD-MobileNet/"
    "f4531497703c76f6f8775c8f784295a64305208e/saved_models/{file}"
)
_AUTHORS = (
    ("1x-FDMobileNet-224.pth.tar", 1.0, "git:b1143ec529f9116fecbcccfbb2604fa94ce04a0e", 65.3),
    (
        "0.5x-FDMobileNet-224.pth.tar",
        0.5,
        "sha256:2659c821467f37fd265f73ffbce4ed8d4c212347db97d4f7e7cb0922f065d054",
        56.3,
    ),
    (
        "0.25x-FDMobileNet-224.pth.tar",
        0.25,
        "sha256:881fe5d0c6d6dd1b92feea55a0891b3d573bbe804c9edb1670187f172b5cfba7",
        45.1,
    ),
)

# osmr/imgclsmob (MIT), release v0.0.422: sha1 of the unzipped .h5 from tf2cv/models/model_store.py, top-1 from
# tensorflow2/README.md. The second part of a file name is the top-5 error, the third the start of the sha1.
_IMGCLSMOB_URL = "https://github.com/osmr/imgclsmob/releases/download/v0.0.422/{file}.zip"
_WIDTHS = {"w1": 1.0, "w3d4": 0.75, "wd2": 0.5, "wd4": 0.25}
_IMGCLSMOB = (
    ("fdmobilenet_w1-1312", "fa99fb8d728f66f68464221e049a33cd2b8bfc6a", 66.10),
    ("fdmobilenet_w3d4-1597", "0123c0313194a3094ec006f757d93f59aad73c2b", 62.03),
    ("fdmobilenet_wd2-1977", "34541b84660b4e812830620c5d48df7c7a142078", 57.34),
    ("fdmobilenet_wd4-3062", "36aa16df43b344f42d6318cc840a81702951a033", 44.58),
    ("mobilenet_w1-0866", "6939232b46fb98c8a9209d66368d630bb50941ed", 73.55),
    ("mobilenet_w3d4-1051", "7832561b956f0d763b002fbd9f2f880bbb712885", 70.12),
    ("mobilenet_wd2-1333", "01395e1b9e2a54065aafcc8b4c419644e7f6a655", 66.14),
    ("mobilenet_wd4-2213", "ad04596aa730e5bb4429115df70504c5a7dd5969", 54.16),
    ("shufflenet_g1_w1-1348", "52ddb20fd7ff288ae30a17757efda4653c09d5ca", 65.52),
    ("shufflenet_g2_w1-1333", "2a8ba6928e6fac05a5fe8911a9a175268eb18382", 66.05),
    ("shufflenet_g3_w1-1326", "daaec8b84572023c1352e11830d296724123408e", 66.07),
    ("shufflenet_g4_w1-1313", "35dbd6b9fb8bc3e97367ea210abbd61da407f226", 66.12),
    ("shufflenet_g8_w1-1322", "449fb27659101a2cf0a87c90e33f4632d1c5e9f2", 66.29),
    ("shufflenet_g1_w3d4-1679", "a1cc5da3a288299a33353f697ed0297328dc3e95", 60.76),
    ("shufflenet_g3_w3d4-1611", "89546a05f499f0fdf96dade0f3db430f92c5920d", 62.20),
    ("shufflenet_g1_wd2-2236", "082db702c422d8bce12d4d79228de56f088a420d", 53.75),
    ("shufflenet_g3_wd2-2059", "e3aefeeb36c20e325d0c7fe46afc60484167609d", 56.16),
    ("shufflenet_g1_wd4-3681", "04a9e2d4ada22b3d317e2fc8b7d4ec11865c414f", 37.95),
    ("shufflenet_g3_wd4-3618", "c9aad0f08d129726bbc19219c9773b38cf38825e", 38.69),
)


def _authors(file: str, alpha: float, digest: str, top1: float) -> Checkpoint:
    url = _AUTHORS_URL.format(file=file)
    license = "none stated; download it yourself, do not redistribute"
    return Checkpoint("fd_mobilenet", alpha, "imagenet_authors", file, url, digest, license, top1)


def _imgclsmob(stem: str, sha1: str, top1: float) -> Checkpoint:
    network, *groups, width = stem.split("-")[0].split("_")
    alpha = _WIDTHS[width]
    file = f"{stem}-{sha1[:8]}.tf2.h5"
    return Checkpoint(
        arch="fd_mobilenet" if network == "fdmobilenet" else network,
        alpha=alpha,
        collection="imagenet",
        file=file,
        url=_IMGCLSMOB_URL.format(file=file),
        digest=f"sha1:{sha1}",
        license="MIT",
        top1=top1,
        groups=int(groups[0][1:]) if groups else None,
        stem_multiplier=alpha if groups else None,
    )


CHECKPOINTS = (*(_imgclsmob(*row) for row in _IMGCLSMOB), *(_authors(*row) for row in _AUTHORS))
COLLECTIONS = ("imagenet", "imagenet_authors")


def find(collection: str, arch: Arch, alpha: float) -> Checkpoint:
    """The checkpoint of a collection for a network.

    Raises:
        ValueError: If there is none; the message lists the available ones.
    """
    offered = [c for c in CHECKPOINTS if c.collection == collection and c.arch == arch.name]
    for checkpoint in offered:
        if checkpoint.fits(arch, alpha):
            return checkpoint
    wanted = Checkpoint(arch.name, alpha, collection, "", "", "", "", None)
    if arch.grouped:
        wanted = dataclasses.replace(wanted, groups=arch.groups, stem_multiplier=arch.stem_alpha(alpha))
    near = [c for c in offered if (c.alpha, c.groups) == (wanted.alpha, wanted.groups)] or offered
    have = "; ".join(map(_arguments, near)) or "none for this network"
    raise ValueError(
        f"weights={collection!r} has no checkpoint of {arch.title} with {_arguments(wanted)}. It has: {have}. Or pass "
        "the path of a checkpoint, or None (--init_weights=none) for random weights."
    )


def _arguments(checkpoint: Checkpoint) -> str:
    text = f"alpha={checkpoint.alpha}"
    if checkpoint.groups:
        text += f", groups={checkpoint.groups}, stem_multiplier={checkpoint.stem_multiplier}"
    return text


def digest_of(content: bytes, algorithm: str) -> str:
    r"""Hash of a file's content as "algorithm:hex"; "git" is the git blob id: the sha1 of "blob <size>\0" + content."""
    if algorithm == "git":
        return f"git:{hashlib.sha1(b'blob %d%c' % (len(content), 0) + content).hexdigest()}"
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def verify(path: str | os.PathLike, checkpoint: Checkpoint) -> None:
    """Raises CheckpointError unless the file is identical to the published one."""
    path = os.fspath(path)
    checkpoints.detect(path)  # reports a web page or an empty file as such, which is clearer than a wrong hash
    with open(path, "rb") as file:
        _check_digest(file.read(), path, checkpoint)


def _check_digest(content: bytes, path: str, checkpoint: Checkpoint) -> None:
    found = digest_of(content, checkpoint.digest.split(":")[0])
    if found != checkpoint.digest:
        raise checkpoints.CheckpointError(
            f"{path}: its hash is {found}, the published {checkpoint.file} has {checkpoint.digest}. "
            f"Delete it and download {checkpoint.url} again, or, if it differs on purpose, pass its path as weights."
        )


def fetch(checkpoint: Checkpoint) -> str:
    """Path of the checkpoint on this machine: from `FD_KERAS_WEIGHTS_DIR`, Keras's cache, or the network.

    Raises:
        CheckpointError: If the file found is not the published one.
        OSError: If the file is in no folder and cannot be downloaded; the message says where to put it.
    """
    folder = os.environ.get(DIRECTORY_VARIABLE)
    if folder and (path := _in_folder(folder, checkpoint)):
        return _verified(path, checkpoint)
    try:
        return _verified(_download(checkpoint), checkpoint)
    except OSError as error:
        if not folder:
            raise
        arch = get_arch(checkpoint.arch, checkpoint.groups, checkpoint.stem_multiplier)
        found = _fitting(folder, arch, checkpoint.alpha)
        raise OSError(f"{error} {DIRECTORY_VARIABLE}={folder} does not contain it; {found}.") from error


def _in_folder(folder: str | os.PathLike, checkpoint: Checkpoint) -> str | None:
    """Path of a checkpoint's file, or of its zip, in a folder; None if neither exists."""
    paths = [os.path.join(os.path.expanduser(folder), f"{checkpoint.file}{end}") for end in ("", ".zip")]
    return next(filter(os.path.exists, paths), None)


def at_hand(arch: Arch, alpha: float, beside: str | None = None) -> str | None:
    """Path of a published checkpoint on this machine, from any collection; None if there is none.

    Args:
        arch: The network.
        alpha: Width multiplier.
        beside: Path of a file whose folder is searched too.
    """
    folders = [os.environ.get(DIRECTORY_VARIABLE), beside and os.path.dirname(beside), _cache(), _cache() / "downloads"]
    for collection in COLLECTIONS:
        for folder in filter(None, folders):
            try:
                checkpoint = find(collection, arch, alpha)
                if path := _in_folder(folder, checkpoint):
                    return _verified(path, checkpoint)
            except (OSError, ValueError):  # no such checkpoint, or a damaged file
                continue
    return None


def license_of(path: str | None) -> str:
    """License of the weights that training started from, for whoever publishes the result; None: random weights."""
    if path is None:
        return "Trained from random weights: yours, subject to the licenses of your photos."
    known = next((one for one in CHECKPOINTS if one.file == os.path.basename(path)), None)
    if known is None:
        return (
            f"The licenses of the weights that training started from ({printable(os.path.basename(path))}) and of "
            "your photos apply."
        )
    return f"Trained from {known.file}, whose license is: {known.license} ({known.url})."


_SUFFIXES = (".h5", ".keras", ".pth", ".pth.tar", ".zip")
_MOST = 20  # maximum number of files in a folder to try


def _fitting(folder: str, arch: Arch, alpha: float) -> str:
    """Ends a message about missing weights: lists the files in a folder that fit the network."""
    folder = os.path.expanduser(folder) or "."
    if not os.path.isdir(folder):
        return f"there is no folder {folder}"
    names = [name for name in sorted(os.listdir(folder)) if name.endswith(_SUFFIXES)][:_MOST]
    fits = [printable(path) for name in names if _fits(path := os.path.join(folder, name), arch, alpha)]
    where = "the current folder" if folder == "." else folder
    return f"to use others, pass one of these paths: {', '.join(fits)}" if fits else f"no weights in {where} fit"


def _fits(path: str, arch: Arch, alpha: float) -> bool:
    try:
        checkpoints.read(path, lower(arch, alpha))
    except (OSError, ValueError):
        return False
    return True


def _verified(path: str, checkpoint: Checkpoint) -> str:
    """Checks the hash; unpacks a zip first, into Keras's cache, since the folder may be read-only."""
    if path.endswith(".zip"):
        path = _unzipped(path, checkpoint)
    verify(path, checkpoint)
    return path


def _cache() -> pathlib.Path:
    return pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models" / "fd_keras"


def _unzipped(path: str, checkpoint: Checkpoint) -> str:
    """Unpacks the published file into Keras's cache after checking its hash."""
    target = _cache() / checkpoint.file
    if target.exists():
        return str(target)
    content = _member(path, checkpoint)
    _check_digest(content, path, checkpoint)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, content)
    return str(target)


def _member(path: str, checkpoint: Checkpoint) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(checkpoint.file)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        if isinstance(error, KeyError) or not zipfile.is_zipfile(path):
            checkpoints.detect(path)  # reports the file's real format
        raise checkpoints.CheckpointError(
            f"{path}: damaged or truncated ({error}); delete it and download {checkpoint.url} again."
        ) from error


def _download(checkpoint: Checkpoint) -> str:
    import keras

    name = checkpoint.url.rsplit("/", 1)[1]
    try:
        _cache().mkdir(parents=True, exist_ok=True)  # get_file treats a missing folder as read-only
        with contextlib.redirect_stdout(sys.stderr):  # progress belongs on standard error
            return keras.utils.get_file(name, checkpoint.url, cache_dir=_cache(), cache_subdir="downloads")
    except Exception as error:  # get_file raises a bare Exception when the network fails
        raise OSError(
            f"Could not download {checkpoint.url} ({error}). To work offline, put {checkpoint.file} into a folder "
            f"and set {DIRECTORY_VARIABLE} to that folder."
        ) from error


def resolve(weights: str | os.PathLike, arch: Arch, alpha: float) -> str:
    """Path of the file that `weights=` refers to: a collection's checkpoint, or the path itself.

    Raises:
        ValueError: If `weights` is neither.
        CheckpointError: As `fetch`.
        OSError: As `fetch`.
    """
    if isinstance(weights, str) and weights in COLLECTIONS:
        return fetch(find(weights, arch, alpha))
    path = os.path.expanduser(os.fspath(weights))
    if not os.path.isfile(path):
        raise ValueError(
            f"weights={weights!r}: no such file; use None, {', '.join(map(repr, COLLECTIONS))} or the path of a file; "
            f"{_fitting(os.path.dirname(path), arch, alpha)}."
        )
    return path


def read(weights: str | os.PathLike, arch: Arch, alpha: float, ops: Sequence[Op]) -> checkpoints.Weights:
    """Reads the weights that `weights=` refers to for a lowered network; raises as `resolve` and `checkpoints.read`."""

    def explain(state: checkpoints.State, file_format: checkpoints.Format) -> str:
        return _advice(state, file_format, arch, alpha, ops)

    return checkpoints.read(resolve(weights, arch, alpha), ops, explain)


def _advice(state, file_format, arch: Arch, alpha: float, ops: Sequence[Op]) -> str:
    """Tries other arguments, and names those with which the file fits; "" if none do."""
    top, channels = ops[-1].kind == "dense", ops[0].cin
    classes = _classes_in(state)

    def fits(candidate: Arch, width: float, count: int | None) -> bool:
        try:  # any image size will do: weight shapes do not depend on it
            lowered = lower(candidate, width, channels=channels, include_top=top, classes=count or 1000)
        except ValueError:
            return False
        return not checkpoints.mismatch(state, file_format, lowered)

    if top and classes != ops[-1].cout and classes and fits(arch, alpha, classes):
        return f"The file fits classes={classes}; for another number, pass include_top=False and add a classifier."
    widths = sorted({alpha, *_WIDTHS.values(), 0.125, 0.35, 1.25, 1.5, 2.0})
    for candidate, change in _variants(arch):
        for width in widths:
            if fits(candidate, width, classes):
                changes = ([f"alpha={width}"] if width != alpha else []) + change
                return f"The file fits {', '.join(changes)}."
    return ""


def _variants(arch: Arch):
    """Yields the network, and for a ShuffleNet those with other groups and stems, with the arguments that differ."""
    yield arch, []
    if not arch.grouped:
        return
    for groups in SHUFFLENET_CHANNELS if arch.name == "shufflenet" else (arch.groups,):
        for stem in (arch.stem_multiplier, *_WIDTHS.values()):
            changes = [f"groups={groups}"] if groups != arch.groups else []
            changes += [f"stem_multiplier={stem}"] if stem != arch.stem_multiplier else []
            yield get_arch(arch.name, groups, stem), changes


def _classes_in(state) -> int | None:
    """Number of classes of the classifier in a file, from the size of its bias."""
    keys = ("predictions/1", "output1/bias", "classifier.bias")
    return next((len(state[key]) for key in keys if key in state and state[key].ndim == 1), None)
