import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import fd_keras
from fd_keras import checkpoints, hdf5, weights, zoo
from fd_keras.checkpoints import CheckpointError
from fd_keras.spec import lower

CLASSES, ALPHA, SIZE = 7, 0.05, (64, 64)

# qinzheng93/FD-MobileNet, pyvision/models/ImageNet/MobileNet.py: output channels of FD-MobileNet's units.
CHANNELS = [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 1024]


@pytest.fixture(autouse=True)
def quick_check(monkeypatch):
    """Skips the check of HDF5 files in a separate process, which test_hdf5.py and damaged_weights.py test."""
    monkeypatch.setattr(hdf5, "check", lambda file: None)


def ops_of(model: str = "fd_mobilenet", alpha: float = ALPHA, classes: int = CLASSES, groups=None, stem=None, **more):
    return lower(zoo.get_arch(model, groups, stem), alpha, SIZE, classes=classes, **more)


# --- writing torch's legacy format -------------------------------------------------------------------------


def opcodes(value) -> bytes:
    """Pickles a plain value, without header and STOP opcode."""
    return pickle.dumps(value, 2)[2:-1]


def tensor_opcodes(key: str, array: np.ndarray, rebuild: str = "_rebuild_tensor_v2") -> bytes:
    """Pickles a tensor as torch does: a call of torch._utils with a persistent id in place of the storage."""
    kind = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage"}[array.dtype.str[1:]]
    storage = b"(" + opcodes("storage") + f"ctorch\n{kind}\n".encode() + opcodes(key) + opcodes("cpu")
    storage += opcodes(array.size) + b"NtQ"
    stride = tuple(step // array.itemsize for step in array.strides)
    arguments = storage + opcodes(0) + opcodes(array.shape) + opcodes(stride)
    if rebuild.endswith("v2"):
        arguments += b"\x89ccollections\nOrderedDict\n)R"
    return f"ctorch._utils\n{rebuild}\n".encode() + b"(" + arguments + b"tR"


def dict_opcodes(items: dict[str, bytes]) -> bytes:
    body = b"".join(opcodes(name) + value for name, value in items.items())
    return b"ccollections\nOrderedDict\n)R(" + body + b"u"


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
HEADER = (MAGIC, pickle.dumps(1001, 2), pickle.dumps({"protocol_version": 1001, "little_endian": True}, 2))


def torch_bytes(arrays: dict[str, np.ndarray], outline: bytes | None = None, header=HEADER, keys=None) -> bytes:
    """A file in torch's legacy format; `outline` replaces the pickle that describes the tensors."""
    storages = {str(number): array for number, array in enumerate(arrays.values())}
    if outline is None:
        tensors = [tensor_opcodes(key, array) for key, array in storages.items()]
        outline = pickled(dict_opcodes(dict(zip(arrays, tensors, strict=True))))
    data = [struct.pack("<q", array.size) + array.tobytes() for array in storages.values()]
    return b"".join([*header, outline, pickle.dumps(list(storages), 2) if keys is None else keys, *data])


def authors_arrays(alpha: float = ALPHA, classes: int = CLASSES) -> dict[str, np.ndarray]:
    """A state dict of random numbers, with the names and shapes of the authors' code."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, norm: str, *shape: int) -> None:
        shapes[f"features.{name}.weight"] = shape
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"features.{norm}.{part}"] = shape[:1]

    before = int(32 * alpha)
    conv("conv_0", "norm_0", before, 3, 3, 3)
    for index, channels in enumerate(CHANNELS):
        after = int(channels * alpha)
        conv(f"dw_conv_{index}", f"dw_norm_{index}", before, 1, 3, 3)
        conv(f"pw_conv_{index}", f"pw_norm_{index}", after, before, 1, 1)
        before = after
    shapes |= {"classifier.weight": (classes, before), "classifier.bias": (classes,)}
    return {name: rng.random(shape, "float32") + 0.5 for name, shape in shapes.items()}


@pytest.fixture
def torch_file(tmp_path):
    """Writes a torch file and returns its path; arguments are those of `torch_bytes`."""

    def write(arrays=None, name="some.pth.tar", **parts) -> str:
        content = torch_bytes(authors_arrays() if arrays is None else arrays, **parts)
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


# --- the authors' torch files ------------------------------------------------------------------------------


def test_torch_arrays_are_assigned_to_their_layers(torch_file):
    arrays = authors_arrays()
    found = checkpoints.read(torch_file(arrays), ops_of())
    assert np.array_equal(found["conv1"][0], np.einsum("oiyx->yxio", arrays["features.conv_0.weight"]))
    depthwise = found["conv_dw_11"][0]
    assert np.array_equal(depthwise[..., 0], np.einsum("cyx->yxc", arrays["features.dw_conv_10.weight"][:, 0]))
    assert np.array_equal(found["conv_pw_3"][0][0, 0], arrays["features.pw_conv_2.weight"][:, :, 0, 0].T)
    norm = [arrays[f"features.pw_norm_2.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    assert np.array_equal(found["conv_pw_3_bn"], norm)
    assert np.array_equal(found["predictions"][0], arrays["classifier.weight"].T)
    assert np.array_equal(found["predictions"][1], arrays["classifier.bias"])
    assert len(found) == 2 * (1 + 2 * len(CHANNELS)) + 1


def test_a_network_loads_the_weights_of_a_torch_file(torch_file, build):
    path = torch_file()
    model = build("fd_mobilenet", alpha=ALPHA, classes=CLASSES, weights=path)
    expected = checkpoints.read(path, ops_of())
    for layer, arrays in expected.items():
        for found, array in zip(model.get_layer(layer).get_weights(), arrays, strict=True):
            assert np.array_equal(found, array)


def test_variants_of_torch_files_are_read_alike(torch_file):
    """{"state_dict": ...}, names from DataParallel, counters, the older _rebuild_tensor, storages of another type."""
    plain = authors_arrays()
    arrays = {f"module.{name}": array for name, array in plain.items()}
    arrays["module.features.norm_0.num_batches_tracked"] = np.array([5])
    arrays["module.classifier.bias"] = arrays["module.classifier.bias"].astype("float64")
    arrays["module.features.conv_0.weight"] = np.asfortranarray(arrays["module.features.conv_0.weight"])
    tensors = {
        name: tensor_opcodes(str(number), array, "_rebuild_tensor" if number % 2 else "_rebuild_tensor_v2")
        for number, (name, array) in enumerate(arrays.items())
    }
    outline = pickled(b"}(" + opcodes("epoch") + opcodes(90) + opcodes("state_dict") + dict_opcodes(tensors) + b"u")
    arrays["module.features.conv_0.weight"] = arrays["module.features.conv_0.weight"].ravel("K")
    found = checkpoints.read(torch_file(arrays, outline=outline), ops_of())
    expected = checkpoints.read(torch_file(plain), ops_of())
    assert found.keys() == expected.keys()
    for layer, layer_arrays in expected.items():
        assert all(map(np.array_equal, found[layer], layer_arrays))


def test_half_precision_is_widened(torch_file):
    half = {name: array.astype("float16") for name, array in authors_arrays().items()}
    found = checkpoints.read(torch_file(half), ops_of())
    assert {array.dtype.name for arrays in found.values() for array in arrays} == {"float32"}


def test_the_classifier_is_left_out_with_the_top(torch_file):
    found = checkpoints.read(torch_file(), ops_of(include_top=False))
    assert "predictions" not in found
    assert "conv_pw_11" in found


def modified_arrays(**changes) -> dict[str, np.ndarray]:
    """The authors' arrays with some replaced, added or removed (None). In names, `__` is a dot."""
    arrays = authors_arrays() | {name.replace("__", "."): array for name, array in changes.items()}
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.mark.parametrize(
    ("arrays", "key"),
    [
        (
            modified_arrays(features__pw_conv_4__weight=None),
            "has no key 'features.pw_conv_4.weight', which conv_pw_5 needs",
        ),
        (modified_arrays(features__dw_norm_0__running_var=None), "no key 'features.dw_norm_0.running_var'"),
        (modified_arrays(classifier__bias=None), "no key 'classifier.bias', which predictions needs"),
        (modified_arrays(features__more__weight=np.zeros(3, "f4")), "'features.more.weight' .one of 1. .* no layer"),
        (
            modified_arrays(features__conv_0__weight=np.zeros((3, 3, 3, 1), "f4")),
            "'features.conv_0.weight' has shape",
        ),
        (
            modified_arrays(features__conv_0__weight=np.zeros((1, 3, 9), "f4")),
            "'features.conv_0.weight' has shape",
        ),
        (modified_arrays(features__norm_0__bias=np.zeros((), "f4")), "'features.norm_0.bias' has shape"),
        (modified_arrays(features__norm_0__bias=np.zeros((0,), "f4")), "'features.norm_0.bias' has shape"),
        ({}, "no key 'features.conv_0.weight'"),
    ],
    ids=["kernel", "variance", "bias", "extra", "permuted", "rank", "scalar", "no elements", "empty"],
)
def test_a_torch_file_of_another_network_is_rejected(torch_file, arrays, key):
    path = torch_file(arrays)
    with pytest.raises(CheckpointError, match=key) as raised:
        checkpoints.read(path, ops_of())
    assert str(raised.value).startswith(path)


@pytest.mark.parametrize(("model", "groups"), [("shufflenet", 3), ("shufflenet", 1), ("fd_shufflenet", 3)])
def test_torch_file_does_not_fit_a_shufflenet(torch_file, model, groups):
    with pytest.raises(CheckpointError, match="cannot have weights of this network"):
        checkpoints.read(torch_file(), ops_of(model, groups=groups))


@pytest.mark.parametrize("percent", range(0, 100, 5))
def test_a_truncated_torch_file_is_rejected(torch_file, percent):
    path = torch_file()
    content = Path(path).read_bytes()
    with open(path, "wb") as file:
        file.write(content[: len(content) * percent // 100])
    with pytest.raises(CheckpointError) as raised:
        checkpoints.read(path, ops_of())
    assert str(raised.value).startswith(path)


def test_every_truncation_of_the_outline_is_rejected(torch_file, tmp_path):
    content = Path(torch_file({"features.conv_0.weight": np.zeros((1, 3, 3, 3), "float32")})).read_bytes()
    for length in range(len(content)):
        (tmp_path / "cut.pth").write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"cut\.pth"):
            checkpoints.read(tmp_path / "cut.pth", ops_of())


def test_random_damage_to_a_torch_file_raises_only_checkpoint_errors(torch_file, tmp_path):
    content = Path(torch_file()).read_bytes()
    outline = content.index(pickle.dumps("0", 2)[2:-1]) + 12000  # within the descriptions of the tensors
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(len(MAGIC), outline, 3):
            damaged[place] = rng.integers(0, 256)
        (tmp_path / "damaged.pth").write_bytes(damaged)
        try:
            checkpoints.read(tmp_path / "damaged.pth", ops_of())
        except CheckpointError as error:
            messages.append(str(error))
    assert all("damaged.pth" in message for message in messages)
    assert len(messages) > 200  # in the others, the damage is in bytes that are not used


# --- malicious pickles -------------------------------------------------------------------------------------


def call(module: str, name: str, *arguments: str) -> bytes:
    """Opcodes that call a function with strings."""
    return f"c{module}\n{name}\n(".encode() + b"".join(map(opcodes, arguments)) + b"tR"


TOUCH = "touch touched"  # what malicious pickles try to run in the current folder
OPEN = "open('touched', 'w')"
ATTACKS = {
    "os.system": call("os", "system", TOUCH),
    "posix.system": call("posix", "system", TOUCH),
    "nt.system": call("nt", "system", TOUCH),
    "subprocess": b"csubprocess\ncheck_output\n(" + opcodes(["touch", "touched"]) + b"tR",
    "eval": call("builtins", "eval", OPEN),
    "exec": call("builtins", "exec", OPEN),
    "python 2's eval": call("__builtin__", "eval", OPEN),
    "open": call("builtins", "open", "touched", "w"),
    "getattr": call("builtins", "getattr", "os", "system"),
    "importlib": call("importlib", "import_module", "os"),
    "namedtuple": call("collections", "namedtuple", "name", "field"),
    "dotted": call("collections", "OrderedDict.fromkeys", "touched"),
    "our own os": call("fd_keras.checkpoints", "os.system", TOUCH),
    "torch.load": call("torch", "load", "touched"),
    "torch.storage": call("torch.storage", "_load_from_bytes", "touched"),
    "torch hub": call("torch.hub", "load_state_dict_from_url", "http://127.0.0.1/"),
    "numpy": call("numpy", "load", "touched"),
    "INST": b"(" + opcodes(TOUCH) + b"ios\nsystem\n",
    "OBJ": b"(cos\nsystem\n" + opcodes(TOUCH) + b"o",
    "NEWOBJ": b"csubprocess\nPopen\n" + opcodes(("touch touched",)) + b"\x81",
    "STACK_GLOBAL": b"\x8c\x02os\x8c\x06system\x93(" + opcodes(TOUCH) + b"tR",
    "extension registry": b"\x82\x01",
    "unknown persistent id": b"(" + opcodes("module") + b"ctorch\nFloatStorage\n" + opcodes("0") + b"tQ",
}
TENSOR = tensor_opcodes("0", np.zeros(1, "float32"))
PLACES = {
    "magic": lambda attack: {"header": (pickled(attack), *HEADER[1:])},
    "second header": lambda attack: {"header": (HEADER[0], pickled(attack), HEADER[2])},
    "third header": lambda attack: {"header": (*HEADER[:2], pickled(attack))},
    "outline": lambda attack: {"outline": pickled(attack)},
    "state dict": lambda attack: {"outline": pickled(dict_opcodes({"weight": attack}))},
    "beside it": lambda attack: {
        "outline": pickled(dict_opcodes({"optimizer": attack, "state_dict": dict_opcodes({"weight": TENSOR})}))
    },
    "storage": lambda attack: {"outline": pickled(b"(" + opcodes("storage") + attack + opcodes("0") + b"tQ")},
    "keys": lambda attack: {"keys": pickled(attack)},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("attack", ATTACKS)
def test_code_in_a_torch_file_is_not_run(torch_file, tmp_path, monkeypatch, attack, place):
    monkeypatch.chdir(tmp_path)
    path = torch_file({"0": np.zeros(1, "float32")}, **PLACES[place](ATTACKS[attack]))
    with pytest.raises(CheckpointError) as raised:
        checkpoints.read(path, ops_of())
    assert str(raised.value).startswith(path)
    assert os.listdir(tmp_path) == [os.path.basename(path)]


def test_an_attack_that_runs_is_detected(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickled(ATTACKS["os.system"]))
    assert os.listdir(tmp_path) == ["touched"]


def test_a_malicious_file_is_reported(torch_file):
    with pytest.raises(CheckpointError, match=r"it imports os.system.*nothing was run. Do not trust this file"):
        checkpoints.read(torch_file(outline=pickled(ATTACKS["os.system"])), ops_of())


def built(state: dict) -> bytes:
    """A tensor followed by a BUILD opcode that sets its attributes."""
    return TENSOR + opcodes(state) + b"b"


def built_slots(state: dict) -> bytes:
    return TENSOR + b"N" + opcodes(state) + b"\x86b"


@pytest.mark.parametrize(
    "tensor",
    [
        built({"dtype": "O"}),
        built({"dtype": "no type"}),
        built({"key": "no storage"}),
        built({"size": (1 << 40,), "stride": (1,)}),
        built({"offset": -1}),
        built({"stride": (-1,), "size": (2,)}),
        built({"size": (2, 2)}),
        TENSOR + b"}" + opcodes("view") + b"ccollections\nOrderedDict\nsb",
        TENSOR + b"}" + opcodes("__class__") + b"ccollections\nOrderedDict\nsb",
        built_slots({"dtype": "O"}),
        TENSOR + b"N}" + opcodes("view") + b"ccollections\nOrderedDict\ns\x86b",
    ],
    ids=["object", "type", "key", "size", "offset", "stride", "rank", "view", "class", "slot", "view slot"],
)
def test_a_file_that_sets_attributes_is_rejected(torch_file, tensor):
    outline = pickled(dict_opcodes({"features.conv_0.weight": tensor}))
    with pytest.raises(CheckpointError):
        checkpoints.read(torch_file({"0": np.zeros(1, "float32")}, outline=outline), ops_of())


@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [((2, 2), (2, 1), 1), ((5,), (1,), 0), ((4,), (2,), 0), ((1,), (1,), 4), ((1,), (1,), -1), ((2,), (-1,), 3)],
)
def test_a_tensor_outside_its_storage_is_rejected(torch_file, shape, stride, offset):
    tensor = tensor_opcodes("0", np.zeros(4, "float32"))
    tensor = tensor.replace(opcodes(0) + opcodes((4,)) + opcodes((1,)), b"".join(map(opcodes, (offset, shape, stride))))
    outline = pickled(dict_opcodes({"features.conv_0.weight": tensor}))
    with pytest.raises(CheckpointError, match="outside its storage"):
        checkpoints.read(torch_file({"0": np.zeros(4, "float32")}, outline=outline), ops_of())


def test_a_tensor_larger_than_its_storage_is_rejected(torch_file):
    """A stride of 0 would expand four bytes to gigabytes."""
    tensor = tensor_opcodes("0", np.zeros(1, "float32"))
    shape = (300, 300)
    tensor = tensor.replace(opcodes(0) + opcodes((1,)) + opcodes((1,)), b"".join(map(opcodes, (0, shape, (0, 0)))))
    outline = pickled(dict_opcodes({"classifier.weight": tensor}))
    with pytest.raises(CheckpointError, match="storage"):
        checkpoints.read(torch_file({"0": np.zeros(1, "float32")}, outline=outline), ops_of())


def test_an_outline_that_contains_itself_is_rejected(torch_file):
    loop = b"]q\x7fh\x7fa"  # a list that contains itself
    outline = pickled(dict_opcodes({"loop": loop, "state_dict": dict_opcodes({"weight": TENSOR})}))
    with pytest.raises(CheckpointError):
        checkpoints.read(torch_file({"0": np.zeros(1, "float32")}, outline=outline), ops_of())


@pytest.mark.parametrize("count", [-1, 1 << 40, 3])
def test_a_storage_with_a_wrong_length_is_rejected(torch_file, count):
    path = torch_file({"features.conv_0.weight": np.zeros(2, "float32")})
    content = Path(path).read_bytes()
    with open(path, "wb") as file:
        file.write(content[:-16] + struct.pack("<q", count) + content[-8:])
    with pytest.raises(CheckpointError, match="truncated"):
        checkpoints.read(path, ops_of())


# --- imgclsmob's HDF5 files --------------------------------------------------------------------------------

FDMOBILENET = {"model": "fd_mobilenet", "alpha": 0.25, "classes": 1000}
SHUFFLENET = {"model": "shufflenet", "alpha": 0.25, "classes": 1000, "groups": 3, "stem": 0.25}
PREFIX = "features/features/features"


def test_grouped_kernels_are_concatenated_in_order(references, tmp_path):
    path = references.write_imgclsmob(tmp_path / "some.h5", "shufflenet_g3_wd4")
    found = checkpoints.read(path, ops_of(**SHUFFLENET))
    name = f"{PREFIX}/stage1/stage1/unit2/compress_conv1/convgroup{{}}/kernel:0"
    parts = [references.seeded(name.format(group), (1, 1, 20, 5)) for group in (1, 2, 3)]
    assert np.array_equal(found["stage2_unit2_compress"][0], np.concatenate(parts, -1))


@pytest.mark.parametrize("repeats", [0, 1, 5])
def test_repeated_group_names_are_accepted(references, tmp_path, repeats):
    """The number of repeated groups depends on the Keras version that wrote the file."""

    def rename(name, array):
        if not name.startswith(PREFIX):
            return {name: array}
        stage, _, rest = name.removeprefix(f"{PREFIX}/").partition("/")
        rest = rest.removeprefix(f"{stage}/")
        return {"/".join(["features", *[stage] * repeats, stage, rest]): array}

    first = references.write_imgclsmob(tmp_path / "first.h5", "fdmobilenet_wd4")
    second = references.write_imgclsmob(tmp_path / "second.h5", "fdmobilenet_wd4", rename)
    found, expected = (checkpoints.read(path, ops_of(**FDMOBILENET)) for path in (second, first))
    assert all(np.array_equal(a, b) for layer in expected for a, b in zip(found[layer], expected[layer], strict=True))


def without(wanted):
    return lambda name, array: {} if name.endswith(wanted) else {name: array}


def transposed(wanted):
    return lambda name, array: {name: array.T if name.endswith(wanted) else array}


def twice(wanted):
    def change(name, array):
        return {name: array, f"{PREFIX}/{name}": array} if name.endswith(wanted) else {name: array}

    return change


def extra(name, array):
    more = {f"{PREFIX}/stage9/stage9/unit1/bn/gamma:0": array} if name.endswith("init_block/bn/gamma:0") else {}
    return {name: array, **more}


@pytest.mark.parametrize(
    ("file", "network", "change", "message"),
    [
        ("fdmobilenet_wd4", FDMOBILENET, without("unit1/pw_conv/bn/beta:0"), "no key 'stage1/unit1/pw_conv/bn/beta'"),
        ("fdmobilenet_wd4", FDMOBILENET, without("output1/bias:0"), "no key 'output1/bias', which predictions needs"),
        (
            "fdmobilenet_wd4",
            FDMOBILENET,
            transposed("output1/kernel:0"),
            "'output1/kernel' has shape",
        ),
        (
            "fdmobilenet_wd4",
            FDMOBILENET,
            twice("init_block/bn/beta:0"),
            "variables have the name 'init_block/bn/beta'",
        ),
        ("fdmobilenet_wd4", FDMOBILENET, extra, "'stage9/unit1/bn/gamma' .one of 1. .* belongs to no layer"),
        ("shufflenet_g3_wd4", SHUFFLENET, without("unit2/expand_conv3/convgroup2/kernel:0"), "convgroup2/kernel'"),
        ("shufflenet_g3_wd4", SHUFFLENET, transposed("unit2/expand_conv3/convgroup2/kernel:0"), "expand.*shape"),
        (
            "fdmobilenet_wd4",
            {**SHUFFLENET, "groups": 1, "stem": 1 / 3},
            extra,
            "no key 'stage1/unit1/compress_conv1/conv/kernel'",
        ),
        ("mobilenet_wd4", FDMOBILENET, extra, "stage4/unit"),
    ],
    ids=["no beta", "no bias", "permuted", "twice", "extra", "no group", "permuted group", "other unit", "other table"],
)
def test_an_imgclsmob_file_of_another_network_is_rejected(references, tmp_path, file, network, change, message):
    path = references.write_imgclsmob(tmp_path / "some.h5", file, change)
    with pytest.raises(CheckpointError, match=message) as raised:
        checkpoints.read(path, ops_of(**network))
    assert str(raised.value).startswith(path)


@pytest.mark.parametrize(
    ("file", "asked", "advice"),
    [
        ("fdmobilenet_wd4", {"model": "fd_mobilenet", "alpha": 0.5}, "The file fits alpha=0.25."),
        ("fdmobilenet_wd4", {"model": "fd_mobilenet", "alpha": 0.25, "classes": 10}, "The file fits classes=1000;"),
        ("shufflenet_g3_wd4", {"model": "shufflenet", "alpha": 0.25}, "The file fits stem_multiplier=0.25."),
        (
            "shufflenet_g3_wd4",
            {"model": "shufflenet", "alpha": 0.25, "groups": 1},
            "fits groups=3, stem_multiplier=0.25",
        ),
        ("shufflenet_g1_wd4", {"model": "shufflenet", "alpha": 0.5}, "fits alpha=0.25, groups=1, stem_multiplier=0.25"),
        ("shufflenet_g8_w1", {"model": "shufflenet", "alpha": 1.0, "groups": 4}, "The file fits groups=8"),
    ],
)
def test_the_error_names_the_arguments_that_fit_the_file(references, tmp_path, file, asked, advice):
    path = references.write_imgclsmob(tmp_path / "some.h5", file)
    arch = zoo.get_arch(asked["model"], asked.get("groups"))
    ops = lower(arch, asked["alpha"], classes=asked.get("classes", 1000))
    with pytest.raises(CheckpointError, match=advice) as raised:
        weights.read(path, arch, asked["alpha"], ops)
    assert str(raised.value).startswith(path)


@pytest.mark.parametrize("size", [(32, 32), (33, 500), (None, None)])
def test_the_named_arguments_do_not_depend_on_the_image_size(references, tmp_path, size):
    path = references.write_imgclsmob(tmp_path / "some.h5", "fdmobilenet_wd4")
    with pytest.raises(CheckpointError, match="The file fits alpha=0.25."):
        weights.read(path, zoo.FD_MOBILENET, 0.5, lower(zoo.FD_MOBILENET, 0.5, size))


def test_no_arguments_are_named_if_none_fit_the_file(references, tmp_path):
    path = references.write_imgclsmob(tmp_path / "some.h5", "mobilenet_wd4")
    with pytest.raises(CheckpointError) as raised:
        fd_keras.FDMobileNet(alpha=0.25, weights=path)
    assert "The file fits" not in str(raised.value)


# --- our own files -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ours(tmp_path_factory, build):
    """A folder with a network's .keras and .weights.h5 files."""
    folder = tmp_path_factory.mktemp("ours")
    model = build("fd_mobilenet", alpha=ALPHA, classes=CLASSES)
    model.save(folder / "ours.keras")
    model.save_weights(folder / "ours.weights.h5")
    return folder


@pytest.mark.parametrize("name", ["ours.keras", "ours.weights.h5"])
@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ({"alpha": 0.25}, "the kernel of conv1 has shape"),
        ({"classes": 10}, "The file fits classes=7; for another number, pass include_top=False"),
        ({"input_shape": (64, 64, 1), "include_preprocessing": False}, "the kernel of conv1 has shape"),
    ],
    ids=["alpha", "classes", "channels"],
)
def test_our_file_of_another_network_is_rejected(ours, name, change, advice):
    arguments = {"alpha": ALPHA, "classes": CLASSES, "input_shape": (*SIZE, 3), **change}
    with pytest.raises(CheckpointError, match=advice) as raised:
        fd_keras.FDMobileNet(weights=ours / name, **arguments)
    assert str(raised.value).startswith(str(ours / name))


@pytest.mark.parametrize("name", ["ours.keras", "ours.weights.h5"])
def test_our_file_of_another_table_is_rejected(ours, name):
    with pytest.raises(CheckpointError, match="no key 'conv_pw_12|no key 'conv_dw_12|has shape"):
        checkpoints.read(ours / name, ops_of("mobilenet"))


def test_a_missing_variable_in_our_file_is_named(ours, tmp_path):
    copy = tmp_path / "copy.weights.h5"
    copy.write_bytes((ours / "ours.weights.h5").read_bytes())
    with h5py.File(copy, "r+") as file:
        group = next(g for g in file["layers"].values() if g["vars"].attrs.get("name") == "conv_pw_3_bn")
        del group["vars"]["2"]
    with pytest.raises(CheckpointError, match="no key 'conv_pw_3_bn/2', which conv_pw_3_bn needs"):
        checkpoints.read(copy, ops_of())


@pytest.mark.parametrize("name", ["fd_mobilenet", "fd_shufflenet"])
def test_the_h5_file_of_a_whole_model_is_read(build, tmp_path, name):
    model = build(name, alpha=ALPHA, classes=CLASSES)
    model.save(tmp_path / "whole.h5")
    found = checkpoints.read(tmp_path / "whole.h5", ops_of(name))
    for layer, arrays in found.items():
        for array, expected in zip(arrays, model.get_layer(layer).get_weights(), strict=True):
            np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("name", ["ours.keras", "ours.weights.h5"])
@pytest.mark.parametrize("percent", range(5, 100, 5))
def test_our_truncated_files_are_rejected(ours, tmp_path, name, percent):
    content = (ours / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * percent // 100])
    with pytest.raises(CheckpointError, match=name):
        checkpoints.read(tmp_path / name, ops_of())


def test_damage_inside_a_keras_zip_is_detected(ours, tmp_path):
    content = bytearray((ours / "ours.keras").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "damaged.keras").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged.keras"):
        checkpoints.read(tmp_path / "damaged.keras", ops_of())


def test_damage_inside_a_compressed_zip_is_detected(ours, tmp_path):
    path = tmp_path / "damaged.keras"
    with zipfile.ZipFile(ours / "ours.keras") as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as copy:
        copy.writestr("model.weights.h5", source.read("model.weights.h5"))
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)  # in the compressed stream, after the header (30 bytes) and the name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged.keras"):
        checkpoints.read(path, ops_of())


# --- other files -------------------------------------------------------------------------------------------


def zip_of(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html>Not found</html>", "a web page, not weights"),
        (b"\n  <html>", "a web page, not weights"),
        (b'<?xml version="1.0"?><Error/>', "a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Supported are .keras"),
        (bytes(range(256)) * 100, "Supported are .keras"),
        (b"\x89HDF\r\n\x1a\n" + bytes(1000), "HDF5 file is damaged"),
        (b"PK\x03\x04" + bytes(1000), "zip file is damaged"),
        (zip_of(archive__data_dot_pkl=b"", archive__version=b"3"), "torch's zip format.*zipfile_serialization=False"),
        (zip_of(weights_dot_tf2_dot_h5=b""), "a zip with weights.tf2.h5 inside; unzip it"),
        (zip_of(readme=b""), "a zip file without weights"),
        (pickle.dumps({"state_dict": 1}, 2), "Supported are .keras"),
        (HEADER[0], "damaged or truncated"),
        (torch_bytes({}, outline=pickled(b"N")), "does not contain a dict of tensors"),
        (torch_bytes({}, outline=pickle.dumps({"state_dict": {"a": 1}}, 2)), "does not contain a dict of tensors"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} bytes",  # zips contain the time
)
def test_other_files_are_reported_by_type(tmp_path, content, message):
    (tmp_path / "some.file").write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as raised:
        checkpoints.read(tmp_path / "some.file", ops_of())
    assert str(raised.value).startswith(str(tmp_path / "some.file"))


def test_missing_file_and_folder_raise_their_own_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoints.read(tmp_path / "missing", ops_of())
    with pytest.raises(IsADirectoryError):
        checkpoints.read(tmp_path, ops_of())
    with pytest.raises(ValueError, match="weights=.*: no such file; use .* or the path of a file"):
        fd_keras.FDMobileNet(weights=tmp_path)


# --- values and sizes --------------------------------------------------------------------------------------


@pytest.fixture
def changed(ours, tmp_path):
    """Copies our .weights.h5, changes the kernel of its first layer, and returns the path of the copy.

    `change` is called with the group, the name of the kernel in it, and the old values.
    """

    def write(change) -> str:
        path = tmp_path / "changed.weights.h5"
        path.write_bytes((ours / "ours.weights.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            group = next(g["vars"] for g in file["layers"].values() if g["vars"].attrs.get("name") == "conv1")
            old = group["0"][()]
            del group["0"]
            change(group, "0", old)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda old: old * np.nan, "NaN or infinite"),
        (lambda old: (old + np.inf).astype("float16"), "NaN or infinite"),
        (lambda old: old.astype("float64") + 1e300, "NaN or infinite"),
        (lambda old: old.astype("complex64"), "complex64 instead of floating point"),
        (lambda old: old.astype("int8"), "int8 instead of floating point"),
        (lambda old: np.full(old.shape, b"x"), r"\|S1 instead of floating point"),
    ],
    ids=["nan", "infinite", "too large", "complex", "integers", "text"],
)
def test_values_that_are_not_finite_numbers_are_rejected(changed, make, message):
    path = changed(lambda group, name, old: group.create_dataset(name, data=make(old)))
    with pytest.raises(CheckpointError, match=rf"^{path}: key 'conv1/0' has .*{message}"):
        checkpoints.read(path, ops_of())


def test_half_and_double_precision_are_converted_to_float32(changed):
    for dtype in ("float16", "float64"):
        path = changed(lambda group, name, old, dtype=dtype: group.create_dataset(name, data=old.astype(dtype)))
        assert checkpoints.read(path, ops_of())["conv1"][0].dtype == "float32"


def test_weights_in_other_files_are_rejected(changed, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(100_000))

    def external(group, name, old):
        group.create_dataset(name, old.shape, "float32", external=[(str(tmp_path / "secret"), 0, old.nbytes)])

    def virtual(group, name, old):
        layout = h5py.VirtualLayout(old.shape, "float32")
        layout[:] = h5py.VirtualSource(tmp_path / "secret", "data", old.shape)
        group.create_virtual_dataset(name, layout)

    for change in (external, virtual):
        path = changed(change)
        with pytest.raises(CheckpointError, match=f"^{path}: the values of .* are in another file"):
            checkpoints.read(path, ops_of())


def test_links_to_other_files_are_not_followed(changed, ours):
    path = changed(
        lambda group, name, old: group.__setitem__(name, h5py.ExternalLink(ours / "ours.weights.h5", group.name))
    )
    with pytest.raises(CheckpointError, match="has no key 'conv1/0'"):
        checkpoints.read(path, ops_of())


def test_sizes_are_checked_before_anything_is_read(changed):
    path = changed(lambda group, name, old: group.create_dataset(name, (1 << 40,), "float32", chunks=(1 << 20,)))
    with pytest.raises(CheckpointError, match=f"^{path}: it declares 4194304 MiB of weights"):
        checkpoints.read(path, ops_of())


def test_a_tuple_with_exponentially_many_references_is_rejected_quickly(torch_file):
    nested = ()
    for _ in range(60):
        nested = (nested, nested)
    path = torch_file({}, outline=pickle.dumps({"state_dict": {}, "more": nested}, 2))
    with pytest.raises(CheckpointError, match="has no key"):
        checkpoints.read(path, ops_of())


def test_damaged_files_are_read_or_rejected_with_one_line(ours, build, torch_file, tmp_path, reliability_seconds):
    """Runs in a separate process, so that a crash of the HDF5 library fails only this test."""
    build("fd_mobilenet", alpha=ALPHA, classes=CLASSES).save(tmp_path / "whole.h5")
    files = [ours / "ours.keras", ours / "ours.weights.h5", tmp_path / "whole.h5", torch_file()]
    script = Path(__file__).with_name("damaged_weights.py")
    command = [sys.executable, script, tmp_path, "0", "30", str(reliability_seconds), *files]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."})
    *_, last = done.stdout.splitlines()
    assert done.returncode == 0, f"damaged file {last}: {done.stderr[-1000:]}"
    for path in files:
        assert f"{Path(path).name} rejected" in last
