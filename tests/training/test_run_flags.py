import subprocess
import sys

SCRIPT = """
from absl import flags
from fd_keras.training import run_flags
flags.FLAGS(["program", "--run_dir=run", "--alpha=0.5", "--keep=2"])
print(sorted(run_flags.given().items()))
"""


def test_what_is_not_given_and_has_no_default_is_left_to_the_configuration():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.stdout.strip() == "[('alpha', 0.5), ('keep', 2), ('run_dir', 'run'), ('seed', 0)]", done.stderr
