import pytest

from fd_keras import zoo
from fd_keras.spec import Arch, lower

TABLES = [
    pytest.param(arch, id=f"{name}-g{arch.groups}")
    for name, entry in zoo.ARCHS.items()
    for arch in ([entry] if isinstance(entry, Arch) else entry.values())
]


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_tables_are_found_by_their_name(name):
    arch = zoo.get_arch(name)
    assert arch.name == name
    assert not arch.grouped or arch.groups == 3  # the paper compares with g = 3


@pytest.mark.parametrize("arch", TABLES)
def test_networks_halve_the_image_five_times(arch):
    assert lower(arch, include_top=False)[-1].size == (7, 7)


@pytest.mark.parametrize("arch", TABLES)
def test_conventions_match_the_checkpoints(arch):
    assert (arch.padding, arch.bn_epsilon, arch.bn_momentum, arch.activation) == ("symmetric", 1e-5, 0.9, "relu")


def test_shufflenet_channels_equal_those_of_its_paper():
    # arXiv 1707.01083, table 1: output channels of stages 2, 3 and 4 for 1, 2, 3, 4 and 8 groups.
    stages = {1: (144, 288, 576), 2: (200, 400, 800), 3: (240, 480, 960), 4: (272, 544, 1088), 8: (384, 768, 1536)}
    for groups, channels in stages.items():
        rows = [stage for stage in zoo.get_arch("shufflenet", groups).stages if stage.unit == "shuffle"]
        assert [(row.filters, row.repeats) for row in rows] == list(zip(channels, (4, 8, 4), strict=True))


@pytest.mark.parametrize("name", ["shufflenet", "fd_shufflenet"])
@pytest.mark.parametrize("alpha", [1.0, 0.5, 0.25])
def test_channels_of_three_groups_are_exact_at_the_papers_widths(name, alpha):
    arch = zoo.get_arch(name)
    units = [op for op in lower(arch, alpha) if op.kind in ("add", "concat")]
    assert {op.cout for op in units} == {stage.filters * alpha for stage in arch.stages if stage.unit == "shuffle"}


@pytest.mark.parametrize(("alpha", "channels"), [(1.0, 24), (0.5, 12), (0.25, 12), (0.1, 12), (2.0, 48)])
def test_the_stem_of_shufflenet_stays_at_half_width(alpha, channels):
    assert lower(zoo.get_arch("shufflenet"), alpha)[0].cout == channels


def test_stem_multiplier_sets_the_stem_of_shufflenet():
    assert lower(zoo.get_arch("shufflenet", stem_multiplier=0.25), 0.25)[0].cout == 6
    assert lower(zoo.get_arch("shufflenet", 8, 0.5), 0.25)[0].cout == 16  # 12, rounded up to a multiple of the groups


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet",), "Unknown network 'resnet'; use one of fd_mobilenet, mobilenet, shufflenet, fd_shufflenet"),
        (("shufflenet", 5), "groups=5; supported are 1, 2, 3, 4, 8"),
        (("fd_shufflenet", 1), "groups=1; supported are 3"),
        (("fd_mobilenet", 3), "fd_mobilenet has no groups"),
        (("mobilenet", None, 0.5), "mobilenet has no groups or stem_multiplier"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        zoo.get_arch(*arguments)


@pytest.mark.parametrize("row", zoo.PAPER_TABLE2, ids=lambda row: f"{row.arch}-{row.alpha}")
def test_rows_of_the_paper_are_networks_of_the_zoo(row):
    assert row.arch in zoo.ARCHS
    assert row.top1
    assert 30 < row.top1 < 80


def test_backbones_in_table_3_of_the_paper_are_networks_of_table_2():
    networks = {(row.arch, row.alpha) for row in zoo.PAPER_TABLE2 if row.arch != "shufflenet"}
    assert {(row.arch, row.alpha) for row in zoo.PAPER_TABLE3} == networks


@pytest.mark.parametrize("row", zoo.PAPER_TABLE3, ids=lambda row: row.title)
def test_mean_aps_in_table_3_are_means_of_the_classes(row):
    assert len(row.class_aps) == 20
    assert sum(row.class_aps) / 20 == pytest.approx(row.mean_ap, abs=0.1)


def test_stages_in_table_1_of_the_paper_add_up_to_table_2():
    assert sum(zoo.PAPER_TABLE1.values()) == pytest.approx(zoo.PAPER_TABLE2[0].mflops, abs=0.5)
