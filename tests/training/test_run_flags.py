import subprocess
import sys

SCRIPT = """
import sys
from absl import flags
from fd_keras.training import run_flags
flags.FLAGS(["program", "--run_dir=run", *sys.argv[2:]])
try:
    print(sorted(run_flags.given(sys.argv[1]).items()))
except ValueError as error:
    print(error)
print("tensorflow" in sys.modules)
"""


def given(*arguments: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_flags_without_a_value_are_left_to_the_config():
    expected = "[('alpha', 0.5), ('keep', 2), ('run_dir', 'run'), ('seed', 0)]"
    assert given("fd_mobilenet", "--alpha=0.5", "--keep=2") == [expected, "False"]


def test_an_invalid_variant_is_rejected_before_tensorflow_is_loaded():
    message = "fd_shufflenet does not support groups=5; supported are 3."
    assert given("fd_shufflenet", "--groups=5") == [message, "False"]
