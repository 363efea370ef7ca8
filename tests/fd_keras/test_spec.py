import ast
import dataclasses
import inspect
import math
import sys

import pytest

from fd_keras import spec, zoo
from fd_keras.spec import Arch, Stage, feature_layers, lower, model_name, scale_channels


def arch_of(name: str) -> Arch:
    return zoo.get_arch(name)


# qinzheng93/FD-MobileNet, pyvision/models/ImageNet/MobileNet.py: output channels and strides of the separable units.
AUTHORS = {
    "fd_mobilenet": (
        [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 1024],
        [2, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1],
    ),
    "mobilenet": (
        [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024],
        [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1],
    ),
}


@pytest.mark.parametrize("module", [spec, zoo])
def test_tables_do_not_import_keras(module):
    tree = ast.parse(inspect.getsource(module))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    ours = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names}
    assert ours <= {"fd_keras.spec"}


@pytest.mark.parametrize("alpha", [1.0, 0.75, 0.5, 0.33, 0.25, 0.125, 1.7])
@pytest.mark.parametrize("name", AUTHORS)
def test_channels_and_strides_equal_those_of_the_authors_code(name, alpha):
    channels, strides = AUTHORS[name]
    ops = lower(arch_of(name), alpha)
    depthwise = [op for op in ops if op.kind == "depthwise"]
    pointwise = [op for op in ops if op.kind == "conv" and op.kernel == 1]
    assert [op.cout for op in pointwise] == [int(count * alpha) for count in channels]
    assert [op.stride for op in depthwise] == strides
    assert (ops[0].cout, ops[0].kernel, ops[0].stride) == (int(32 * alpha), 3, 2)


@pytest.mark.parametrize(
    ("filters", "alpha", "divisor", "channels"),
    [
        (32, 1, 1, 32),
        (32, 0.25, 1, 8),
        (1024, 0.01, 1, 10),  # truncated
        (32, 0.01, 1, 1),  # at least one
        (64, 1.7, 1, 108),
        (240, 0.33, 12, 84),  # 79 rounded up
        (240, 0.25, 12, 60),
        (144, 0.01, 4, 4),
    ],
)
def test_scaled_channels(filters, alpha, divisor, channels):
    assert scale_channels(filters, alpha, divisor) == channels


@pytest.mark.parametrize("size", [(224, 224), (33, 47), (32, 32), (225, 97), (600, 1000)])
@pytest.mark.parametrize("name", zoo.ARCHS)
def test_sizes_follow_torchs_formula(name, size):
    sizes = {spec.IMAGE: size}
    for op in lower(arch_of(name), 0.25, size):
        before = sizes[op.inputs[0]]
        if op.kind in ("global_pool", "dense"):
            expected = (1, 1)
        else:
            expected = tuple((side + 2 * (op.kernel // 2) - op.kernel) // op.stride + 1 for side in before)
        assert op.size == expected, op.name
        assert all(sizes[other] == before for other in op.inputs)
        sizes[op.name] = op.size


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_an_unknown_image_size_stays_unknown(name):
    ops = lower(arch_of(name), 0.5, (None, 64), include_top=False)
    assert ops[0].size == (None, 32)
    assert ops[-1].size == (None, 2)
    with pytest.raises(ValueError, match="conv1.*image size"):
        _ = ops[0].macs


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_ops_are_in_topological_order_with_unique_names(name):
    seen = [spec.IMAGE]
    for op in lower(arch_of(name)):
        assert op.name not in seen
        assert set(op.inputs) <= set(seen)
        seen.append(op.name)


@pytest.mark.parametrize("name", zoo.ARCHS)
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.33, 1.0, 1.7])
def test_channels_are_consistent_for_any_alpha(name, alpha):
    channels = {spec.IMAGE: 3}
    for op in lower(arch_of(name), alpha):
        inputs = [channels[other] for other in op.inputs]
        assert op.cin == (sum(inputs) if op.kind == "concat" else inputs[0])
        assert op.cin % op.groups == op.cout % op.groups == 0
        assert op.cout > 0
        if op.kind == "concat":
            assert op.cout == op.cin
        if op.kind == "add":
            assert len(set(inputs)) == 1
        channels[op.name] = op.cout


@pytest.mark.parametrize("groups", zoo.SHUFFLENET)
def test_shuffle_units_follow_figure_2_of_the_shufflenet_paper(groups):
    ops = {op.name: op for op in lower(zoo.get_arch("shufflenet", groups))}
    assert ops["stage2_unit1_compress"].groups == 1
    assert ops["stage2_unit2_compress"].groups == ops["stage2_unit1_expand"].groups == groups
    assert ("stage2_unit1_shuffle" in ops) == (groups > 1)
    assert ops["stage2_unit1_dw"].activation is None
    assert ops["stage2_unit1_concat"].inputs == ("stage2_unit1_expand", "stage2_unit1_pool")
    assert ops["stage2_unit2_add"].inputs == ("stage2_unit2_expand", "stage2_unit1_concat")
    assert ops["stage2_unit2_compress"].cout * 4 == ops["stage2_unit2_expand"].cout == zoo.SHUFFLENET_CHANNELS[groups]


@pytest.mark.parametrize("alpha", [0, -1, math.nan, math.inf, "x", None])
def test_an_invalid_alpha_is_rejected(alpha):
    with pytest.raises(ValueError, match="alpha must be a number above 0"):
        lower(zoo.FD_MOBILENET, alpha)


@pytest.mark.parametrize("size", [(31, 224), (224, 31), (0, 0), (-5, None)])
def test_too_small_images_are_rejected(size):
    with pytest.raises(ValueError, match=r"at least 32x32.*got \("):
        lower(zoo.FD_MOBILENET, 1.0, size)


@pytest.mark.parametrize("classes", [0, -1, 2.5, "10", None])
def test_an_invalid_number_of_classes_is_rejected(classes):
    with pytest.raises(ValueError, match="classes must be a whole number above 0"):
        lower(zoo.FD_MOBILENET, classes=classes)


def test_classes_are_ignored_without_top():
    assert lower(zoo.FD_MOBILENET, include_top=False, classes=0)[-1].kind == "conv"


@pytest.mark.parametrize("multiplier", [0, -0.5, math.nan, math.inf, "x"])
def test_an_invalid_stem_multiplier_is_rejected(multiplier):
    with pytest.raises(ValueError, match="stem_multiplier must be"):
        lower(zoo.get_arch("shufflenet", stem_multiplier=multiplier))


@pytest.mark.parametrize(
    ("arguments", "alpha", "size", "name"),
    [
        (("fd_mobilenet",), 0.25, (224, 224), "fd_mobilenet_0.25_224"),
        (("fd_mobilenet",), 1, (224, 224), "fd_mobilenet_1.0_224"),
        (("mobilenet",), 0.125, (160, 128), "mobilenet_0.125_160x128"),
        (("mobilenet",), 0.5, (None, None), "mobilenet_0.5"),
        (("shufflenet",), 0.5, (224, 224), "shufflenet_g3_0.5_224"),
        (("shufflenet", 8, 0.25), 1.0, (224, 224), "shufflenet_g8_1.0_stem0.25_224"),
        (("fd_shufflenet",), 0.25, (96, None), "fd_shufflenet_g3_0.25"),
    ],
)
def test_model_name(arguments, alpha, size, name):
    assert model_name(zoo.get_arch(*arguments), alpha, size) == name


def test_feature_layers_of_fd_mobilenet():
    layers = feature_layers(lower(zoo.FD_MOBILENET, include_top=False))
    assert layers == {
        2: "conv1_relu",
        4: "conv_pw_1_relu",
        8: "conv_pw_3_relu",
        16: "conv_pw_5_relu",
        32: "conv_pw_11_relu",
    }


def test_feature_layers_of_shufflenet_are_whole_units():
    layers = feature_layers(lower(zoo.get_arch("shufflenet")))
    assert layers == {
        2: "conv1_relu",
        4: "pool1",
        8: "stage2_unit4_add_relu",
        16: "stage3_unit8_add_relu",
        32: "stage4_unit4_add_relu",
    }


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_feature_layers_are_the_same_with_and_without_the_top_and_at_any_width(name):
    layers = feature_layers(lower(arch_of(name)))
    assert list(layers) == [2, 4, 8, 16, 32]
    assert feature_layers(lower(arch_of(name), 0.25, include_top=False)) == layers


def test_depth_is_that_of_the_longest_path():
    depths = spec.depths(lower(zoo.get_arch("shufflenet")))
    assert depths["pool1"] == 2
    assert depths["stage2_unit1_pool"] == 3
    assert depths["stage2_unit1_concat"] == 5  # compress, depthwise and expand: three layers; pooling: one
    assert depths["stage2_unit2_add"] == 8


def test_a_new_table_needs_no_code():
    arch = Arch("tiny", "Tiny", (Stage("conv", 8, stride=2), Stage("separable", 16, repeats=2)))
    ops = lower(arch, size=(64, 64), classes=3)
    assert [op.name for op in ops] == [
        "conv1",
        "conv_dw_1",
        "conv_pw_1",
        "conv_dw_2",
        "conv_pw_2",
        "avg_pool",
        "predictions",
    ]
    kernels = 3 * 3 * 3 * 8 + 9 * 8 + 8 * 16 + 9 * 16 + 16 * 16
    norms = 2 * (8 + 8 + 16 + 16 + 16)
    assert sum(op.parameters for op in ops) == kernels + norms + 16 * 3 + 3
    assert sum(op.macs for op in ops) == kernels * 32 * 32 + 16 * 3


def test_ops_are_read_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        lower(zoo.FD_MOBILENET)[0].cout = 1


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_after_the_cut_a_network_needs_only_one_feature_map(name):
    ops = lower(arch_of(name))
    first, rest = spec.cut(ops, 16)
    assert first + rest == ops
    assert spec.output_layer(first[-1]) == feature_layers(ops)[16]
    inside = {op.name for op in rest}
    assert {source for op in rest for source in op.inputs} - inside == {first[-1].name}


@pytest.mark.parametrize("reduction", [3, 32])
def test_a_cut_at_another_reduction_is_rejected(reduction):
    with pytest.raises(ValueError, match=f"cut at a reduction of {reduction}; possible are 2, 4, 8, 16"):
        spec.cut(lower(zoo.FD_MOBILENET), reduction)
