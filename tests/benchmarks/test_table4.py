import json
import subprocess
from collections import Counter

import pytest

from benchmarks import table4
from fd_keras import zoo
from fd_keras.errors import ProgramError


def test_the_papers_nine_networks_and_fd_shufflenet_are_built():
    assert Counter(network.arch for network in table4.networks()) == dict.fromkeys(zoo.ARCHS, 3)


@pytest.fixture
def converter(monkeypatch):
    """Replaces the converter's process: records its flags and writes the files they name."""
    calls = []

    def run(call, **_):
        flags = dict(word.removeprefix("--").split("=") for word in call if word.startswith("--"))
        calls.append(flags)
        name = f"{flags['model']}_{flags['alpha']}_224"
        for recipe in flags["recipes"].split(","):
            for suffix, text in {"tflite": "", "json": '{"recipe": 1}'}.items():
                with open(f"{flags['output_dir']}/{name}_{recipe}.{suffix}", "w") as file:
                    file.write(text)
        return subprocess.CompletedProcess(call, 0)

    monkeypatch.setattr(table4.subprocess, "run", run)
    return calls


def test_existing_files_are_kept_and_the_papers_accuracy_is_shown(tmp_path, converter):
    network = zoo.PAPER_TABLE2[0]
    table4.convert(network, tmp_path, tmp_path)
    (tmp_path / "fd_mobilenet_1.0_224_int8.tflite").unlink()
    table4.convert(network, tmp_path, tmp_path)
    assert [flags["recipes"] for flags in converter] == ["float32,int8", "int8"]
    for recipe in ("float32", "int8"):
        facts = json.loads((tmp_path / f"fd_mobilenet_1.0_224_{recipe}.json").read_text())
        assert facts == {"recipe": 1, "paper_top1": 65.3}


def test_a_conversion_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(
        table4.subprocess, "run", lambda call, **_: subprocess.CompletedProcess(call, 1, "", "no memory")
    )
    with pytest.raises(ProgramError, match="fd_mobilenet_1.0_224 could not be converted:\nno memory"):
        table4.convert(zoo.PAPER_TABLE2[0], tmp_path, tmp_path)
