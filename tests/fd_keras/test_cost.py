import json
import math
import pathlib

import keras
import pytest

from fd_keras import cost, zoo
from fd_keras.cost import CLASSIFIER, layer_reaching, profile, profile_ops
from fd_keras.spec import Arch, lower, model_name

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden.json").read_text())

# Trainable parameters by (network, alpha, groups), from _test() in osmr/imgclsmob,
# tensorflow2/tf2cv/models/{fdmobilenet,mobilenet,shufflenet}.py. Its ShuffleNets multiply the stem by alpha.
IMGCLSMOB_PARAMETERS = {
    ("fd_mobilenet", 1.0, None): 2901288,
    ("fd_mobilenet", 0.75, None): 1833304,
    ("fd_mobilenet", 0.5, None): 993928,
    ("fd_mobilenet", 0.25, None): 383160,
    ("mobilenet", 1.0, None): 4231976,
    ("mobilenet", 0.75, None): 2585560,
    ("mobilenet", 0.5, None): 1331592,
    ("mobilenet", 0.25, None): 470072,
    ("shufflenet", 1.0, 1): 1531936,
    ("shufflenet", 1.0, 2): 1733848,
    ("shufflenet", 1.0, 3): 1865728,
    ("shufflenet", 1.0, 4): 1968344,
    ("shufflenet", 1.0, 8): 2434768,
    ("shufflenet", 0.75, 1): 975214,
    ("shufflenet", 0.75, 3): 1238266,
    ("shufflenet", 0.5, 1): 534484,
    ("shufflenet", 0.5, 3): 718324,
    ("shufflenet", 0.25, 1): 209746,
    ("shufflenet", 0.25, 3): 305902,
}

# Multiply-accumulates of the authors' torch modules, counted by forward hooks on Conv2d and Linear at 224x224.
TORCH_MACS = {
    ("fd_mobilenet", 1.0): 144489728,
    ("fd_mobilenet", 0.75): 84282816,
    ("fd_mobilenet", 0.5): 40132224,
    ("fd_mobilenet", 0.25): 12037952,
    ("fd_mobilenet", 0.125): 4011936,
    ("mobilenet", 1.0): 568740352,
    ("mobilenet", 0.75): 325400448,
    ("mobilenet", 0.5): 149497088,
    ("mobilenet", 0.25): 41030272,
    ("mobilenet", 0.125): 12085568,
}


def ops_of(name: str, alpha: float, groups: int | None = None):
    return lower(zoo.get_arch(name, groups), alpha)


@pytest.mark.parametrize("name", GOLDEN)
def test_the_table_agrees_with_golden(name):
    golden = GOLDEN[name]
    arch = zoo.get_arch(golden["arch"], golden["groups"])
    found = profile_ops(lower(arch, golden["alpha"]))
    assert model_name(arch, golden["alpha"], (224, 224)) == name
    assert (found.macs, found.parameters) == (golden["macs"], golden["parameters"])


@pytest.mark.parametrize("name", GOLDEN)
def test_the_live_model_agrees_with_golden(name, build):
    golden = GOLDEN[name]
    network = {"groups": golden["groups"], "alpha": golden["alpha"]}
    model = build(golden["arch"], input_shape=None, classes=1000, **network)
    live, table = profile(model), profile_ops(ops_of(golden["arch"], golden["alpha"], golden["groups"]))
    assert (live.macs, live.parameters) == (golden["macs"], golden["parameters"])
    assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == golden["parameters"]
    assert live.stages == table.stages
    assert live.uncounted == ()


def test_golden_has_all_tables_and_all_rows_of_the_paper():
    covered = {(row["arch"], row["groups"], row["alpha"]) for row in GOLDEN.values()}
    for name, entry in zoo.ARCHS.items():
        for groups in [None] if isinstance(entry, Arch) else entry:
            assert (name, groups, 1.0) in covered
    for row in zoo.PAPER_TABLE2:
        arch = zoo.get_arch(row.arch)
        assert (row.arch, arch.groups if arch.grouped else None, row.alpha) in covered


@pytest.mark.parametrize(("name", "alpha", "groups"), IMGCLSMOB_PARAMETERS)
def test_parameters_equal_those_published_by_imgclsmob(name, alpha, groups):
    arch = zoo.get_arch(name, groups, alpha if groups else None)
    assert profile_ops(lower(arch, alpha)).parameters == IMGCLSMOB_PARAMETERS[name, alpha, groups]


@pytest.mark.parametrize(("name", "alpha"), TORCH_MACS)
def test_macs_equal_those_of_the_authors_torch_modules(name, alpha):
    assert profile_ops(ops_of(name, alpha)).macs == TORCH_MACS[name, alpha]


@pytest.mark.parametrize(
    ("file", "groups", "alpha"),
    [("shufflenet_g1_wd4", 1, 0.25), ("shufflenet_g3_wd4", 3, 0.25), ("shufflenet_g8_w1", 8, 1)],
)
def test_macs_of_shufflenet_equal_those_of_imgclsmobs_kernels(references, file, groups, alpha):
    layout = references.imgclsmob["networks"][file]["layout"]
    features = layout["features"]["features"]["features"]
    macs = 112**2 * _kernels(features["init_block"])
    for number in (1, 2, 3):
        side = 56 // 2**number
        units = features[f"stage{number}"][f"stage{number}"]
        entry = _kernels(units["unit1"]["compress_conv1"])  # runs before the strided layer
        macs += (2 * side) ** 2 * entry + side**2 * (_kernels(units) - entry)
    macs += _kernels(layout["output1"])
    assert profile_ops(lower(zoo.get_arch("shufflenet", groups, alpha), alpha)).macs == macs


def _kernels(tree: dict) -> int:
    """Number of elements of all kernels in a tree of names and shapes."""
    return sum(
        _kernels(item) if isinstance(item, dict) else math.prod(item) * ("kernel" in name)
        for name, item in tree.items()
    )


@pytest.mark.parametrize(("stage", "mflops"), zoo.PAPER_TABLE1.items())
def test_macs_by_stage_equal_table_1_of_the_paper(stage, mflops):
    assert profile_ops(ops_of("fd_mobilenet", 1.0)).stages[stage] / 1e6 == pytest.approx(mflops, abs=0.05)


@pytest.mark.parametrize("row", zoo.PAPER_TABLE2, ids=lambda row: f"{row.arch}-{row.alpha}")
def test_macs_equal_table_2_of_the_paper(row):
    mflops = profile_ops(ops_of(row.arch, row.alpha)).macs / 1e6
    assert row.mflops in (math.floor(mflops), round(mflops))  # the paper rounds 37.6 to 38 and truncates 144.5 to 144


@pytest.mark.parametrize(("name", "alpha"), zoo.PAPER_DOWNSAMPLING)
def test_downsampling_equals_section_2_of_the_paper(name, alpha):
    paper, ops = zoo.PAPER_DOWNSAMPLING[name, alpha], ops_of(name, alpha)
    assert layer_reaching(ops, 4) == paper["stride4_layer"]
    assert layer_reaching(ops, 32) == paper["stride32_layer"]
    assert round(profile_ops(ops).macs_before_last / 1e6) == paper["mflops_before_last"]


@pytest.mark.parametrize(("alpha", "budget"), [(1.0, 137.5), (0.5, 37.6), (0.25, 13.3)])
def test_fd_shufflenet_downsamples_fast_within_the_macs_of_shufflenet(alpha, budget):
    ops = ops_of("fd_shufflenet", alpha)
    assert layer_reaching(ops, 32) <= 12
    assert budget - 3 < profile_ops(ops).macs / 1e6 <= budget
    assert layer_reaching(ops_of("shufflenet", alpha), 32) == 40


def test_the_image_size_scales_only_the_convolutions():
    small, large = (profile_ops(lower(zoo.FD_MOBILENET, 1.0, (side, side))).stages for side in (128, 256))
    assert small.pop(CLASSIFIER) == large.pop(CLASSIFIER) == 1024 * 1000
    assert {stage: 4 * macs for stage, macs in small.items()} == large


# --- any Keras model ---------------------------------------------------------------------------------------


def model_of(*layers, shape=(8, 8, 3)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *layers])


@pytest.mark.parametrize(
    ("layer", "macs", "parameters"),
    [
        (lambda: keras.layers.Conv2D(4, 3, 2, "same"), 4 * 4 * 3 * 3 * 3 * 4, 3 * 3 * 3 * 4 + 4),
        (lambda: keras.layers.Conv2D(6, 1, groups=3), 8 * 8 * 1 * 6, 6 + 6),
        (lambda: keras.layers.DepthwiseConv2D(3, use_bias=False), 6 * 6 * 9 * 3, 27),
        (lambda: keras.layers.SeparableConv2D(5, 3, use_bias=False), 6 * 6 * (9 * 3 + 3 * 5), 27 + 15),
        (lambda: keras.layers.Conv2DTranspose(4, 3, 2, use_bias=False), 8 * 8 * 9 * 3 * 4, 108),
        (lambda: keras.layers.Dense(7), 8 * 8 * 3 * 7, 28),
        (lambda: keras.layers.BatchNormalization(), 0, 6),
        (lambda: keras.layers.ReLU(), 0, 0),
    ],
    ids=["conv", "grouped", "depthwise", "separable", "transposed", "dense", "norm", "relu"],
)
def test_cost_of_single_layers(layer, macs, parameters):
    found = profile(model_of(layer()))
    assert (found.macs, found.parameters, found.uncounted) == (macs, parameters, ())


def test_cost_of_conv1d():
    assert profile(model_of(keras.layers.Conv1D(4, 3, use_bias=False), shape=(10, 2))).macs == 8 * 3 * 2 * 4


def test_layers_of_unknown_cost_are_named():
    image = keras.Input((4, 6))
    model = keras.Model(image, keras.layers.MultiHeadAttention(2, 3, name="attention")(image, image))
    assert profile(model).uncounted == ("attention",)


def test_nested_models_are_counted(small):
    inner = small("fd_mobilenet")
    outer = model_of(inner, shape=(64, 64, 3))
    assert profile(outer).macs == profile(inner).macs > 0
    assert profile(outer).parameters == profile(inner).parameters


@pytest.mark.parametrize("backbone_shape", [(64, 64, 3), (None, None, 3)])
def test_cost_of_a_classifier_on_a_backbone(build, backbone_shape):
    backbone = build("fd_mobilenet", include_top=False, input_shape=backbone_shape)
    pool = keras.layers.GlobalAveragePooling2D()
    model = model_of(backbone, pool, keras.layers.Dense(10), shape=(64, 64, 3))
    assert profile(model).macs == profile_ops(lower(zoo.FD_MOBILENET, 0.25, (64, 64), classes=10)).macs


def test_frozen_layers_have_the_same_macs(build):
    model = build("fd_mobilenet")
    before = profile(model).macs
    model.trainable = False
    assert profile(model).macs == before
    assert profile(model).parameters == 0


def test_a_model_without_a_fixed_size_is_rejected(build):
    with pytest.raises(ValueError, match="fix height and width"):
        profile(build("fd_mobilenet", include_top=False, input_shape=(None, None, 3)))


def test_rows_of_a_model_have_size_and_reduction(small):
    rows = {row.name: row for row in profile(small("fd_mobilenet")).rows}
    ops = {op.name: op for op in lower(zoo.FD_MOBILENET, 0.25, (64, 64), classes=10)}
    for name, op in ops.items():
        assert (rows[name].size, rows[name].macs) == (op.size, op.macs)
    assert rows["conv_dw_2"].reduction == 8
    assert rows["predictions"].reduction == cost.CLASSIFIER


def test_a_shared_layer_counts_for_each_call():
    trunk = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.Flatten()])
    one = profile(trunk)
    left, right = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    twice = profile(keras.Model([left, right], keras.layers.Dot(1)([trunk(left), trunk(right)])))
    assert (twice.macs, twice.parameters) == (2 * one.macs, one.parameters)
    layer = keras.layers.Conv2D(3, 3, padding="same")
    loop = profile(keras.Model(left, layer(layer(layer(left)))))
    assert loop.macs == 3 * 8 * 8 * 3 * 3 * 3 * 3
