import re
import subprocess
import sys

from tests import jax_programs, needs

needs.package("jax")


def test_a_row_for_each_case():
    """In another process, since Keras's backend cannot be changed in this one."""
    command = [sys.executable, "-m", "benchmarks.accelerator_step", "--size=32", "--batch=4", "--alpha=0.25"]
    command += ["--dtype=bfloat16", "--steps=2", "--rounds=1", "--matrix=64"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=jax_programs.environment()).stdout
    rows = re.findall(r"^\| 0.25x \| 4 \| (\w+) \| [\d,]+ \| [\d,]+-[\d,]+ \| [\d.]+% \|$", printed, re.MULTILINE)
    assert rows == ["bfloat16"]
