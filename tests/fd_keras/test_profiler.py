import csv
import io

import keras
import pytest
from PIL import Image

from fd_keras import profiler, zoo
from fd_keras.cost import profile_ops
from fd_keras.errors import UsageError
from fd_keras.spec import lower
from tests import needs


@pytest.fixture
def run_main(capsys):
    """A function that runs the program and returns its output."""

    def run(*argv: str) -> str:
        profiler.main(list(argv))
        return capsys.readouterr().out

    return run


def tables(text: str) -> list[list[list[str]]]:
    return [list(csv.reader(io.StringIO(part))) for part in text.split("\n\n")]


def test_prints_the_papers_tables(run_main):
    out = run_main()
    assert "144.5" in out
    for row in zoo.PAPER_TABLE2:
        assert f"{zoo.get_arch(row.arch).title} {row.alpha:g}x" in out
    assert "layer 12" in out
    assert "layer 24" in out


def test_csv_has_our_figures_and_the_papers(run_main):
    first, second = tables(run_main("--csv"))
    assert {len(row) for row in first} == {8}
    assert {len(row) for row in second} == {8}
    assert first[0] == ["MFLOPs at", "112x112", "56x56", "28x28", "14x14", "7x7", "classifier", "total"]
    assert first[1] == ["FD-MobileNet 1x", "10.8", "7.3", "20.6", "19.9", "84.7", "1.0", "144.5"]
    assert first[2][1:] == ["10.8", "7.3", "20.6", "19.9", "84.7", "1.0", "144"]
    by_name = {row[0]: row for row in second}
    assert by_name["FD-MobileNet 1x"][1:6] == ["144.5", "144", "2,901,288", "layer 2", "layer 12"]
    assert by_name["MobileNet 0.5x"][4:] == ["layer 4", "layer 24", "129.4", "4, 24, 129"]
    for row in zoo.PAPER_TABLE2:
        title = f"{zoo.get_arch(row.arch).title} {row.alpha:g}x"
        assert by_name[title][2] == str(row.mflops)
        assert float(by_name[title][1]) == pytest.approx(row.mflops, abs=0.6)


def test_a_single_network_is_shown_by_layer(run_main):
    (rows,) = tables(run_main("--model=fd_mobilenet", "--alpha=0.35", "--size=160", "--csv"))
    cost = profile_ops(lower(zoo.FD_MOBILENET, 0.35, (160, 160)))
    assert rows[0] == ["layer", "kind", "output", "MFLOPs", "parameters"]
    assert rows[1][:3] == ["conv1", "conv", "80x80"]
    assert rows[-1] == ["total", "", "", f"{cost.macs / 1e6:.3f}", f"{cost.parameters:,}"]
    assert sum(float(row[3]) for row in rows[1:-1]) == pytest.approx(cost.macs / 1e6, abs=0.0005 * len(rows))


def test_groups_and_stem_reach_the_network(run_main):
    (rows,) = tables(run_main("--model=shufflenet", "--alpha=0.25", "--stem_multiplier=0.25", "--csv"))
    assert rows[-1][-1] == "305,902"  # counted by imgclsmob
    (rows,) = tables(run_main("--model=shufflenet", "--groups=8", "--csv"))
    assert rows[-1][-1] == "2,434,768"


def test_columns_are_aligned(run_main):
    lines = run_main("--model=fd_mobilenet").splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[-1].startswith("total ")


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_plot_is_written(tmp_path, capsys, suffix):
    needs.package("matplotlib")
    path = tmp_path / f"figure{suffix}"
    profiler.main([f"--plot={path}"])
    assert f"wrote {path}" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    if suffix == ".png":
        with Image.open(path) as image:
            image.load()
            assert min(image.size) > 300
    else:
        assert path.read_bytes()[:5] == {".svg": b"<?xml", ".pdf": b"%PDF-"}[suffix]


@pytest.mark.parametrize("name", ["missing/figure.png", "figure.nonsense"])
def test_a_plot_that_cannot_be_written_leaves_no_files(tmp_path, name):
    needs.package("matplotlib")
    with pytest.raises(ValueError, match=name):
        profiler.main([f"--plot={tmp_path / name}"])
    assert list(tmp_path.iterdir()) == []


def test_a_saved_model_is_profiled(tmp_path, run_main, small):
    small("shufflenet").save(tmp_path / "saved.keras")
    (rows,) = tables(run_main(str(tmp_path / "saved.keras"), "--csv"))
    cost = profile_ops(lower(zoo.get_arch("shufflenet"), 0.25, (64, 64), classes=10))
    assert rows[-1][3:] == [f"{cost.macs / 1e6:.3f}", f"{cost.parameters:,}"]


def test_layers_that_are_not_counted_are_named(tmp_path, capsys):
    image = keras.Input((4, 4))
    attention = keras.layers.MultiHeadAttention(1, 2, name="attention")(image, image)
    keras.Model(image, attention).save(tmp_path / "saved.keras")
    profiler.main([str(tmp_path / "saved.keras")])
    assert capsys.readouterr().err == "MACs not counted: attention\n"


def test_a_model_without_a_fixed_size_is_an_error(tmp_path):
    image = keras.Input((None, None, 3))
    keras.Model(image, keras.layers.Conv2D(2, 3)(image)).save(tmp_path / "saved.keras")
    with pytest.raises(ValueError, match="fix height and width"):
        profiler.main([str(tmp_path / "saved.keras")])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["missing.keras"], "missing.keras: no such file"),
        (["broken.keras"], "broken.keras: not a .keras file"),
        (["--size=31"], "at least 32x32"),
        (["--model=fd_mobilenet", "--alpha=0"], "alpha must be"),
        (["--model=shufflenet", "--groups=5"], "groups=5; supported are 1, 2, 3, 4, 8"),
        (["--model=fd_mobilenet", "--groups=3"], "has no groups"),
    ],
)
def test_invalid_values_are_errors(tmp_path, monkeypatch, argv, message):
    (tmp_path / "broken.keras").write_bytes(b"no model")
    monkeypatch.chdir(tmp_path)
    with pytest.raises((OSError, ValueError), match=message):
        profiler.main(argv)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--unknown", "--unknown"),
        ("--mod=mobilenet", "--mod=mobilenet"),
        ("--model=resnet", "--model: invalid choice: 'resnet'"),
        ("--model=mobilnet", "did you mean mobilenet"),
        ("--size=x", "--size"),
    ],
)
def test_wrong_flags_are_usage_errors(flag, words):
    with pytest.raises(UsageError, match=words):
        profiler.main([flag])
