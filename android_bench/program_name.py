"""Names of this package's programs as the user runs them."""

import shlex
import shutil
import sys


def program_name(module: str) -> str:
    """Returns `fd-keras COMMAND` if the program was started by that command, otherwise `python -m ...`.

    Args:
        module: Name of the program's module.
    """
    return sys.argv[0] if sys.argv[0].startswith("fd-keras ") else f"python -m {__package__}.{module}"


def report_command(folder: str) -> str:
    """Returns the command that writes the report for a folder of results, quoted for the shell."""
    program = (
        "fd-keras report" if shutil.which("fd-keras") else f"{shlex.quote(sys.executable)} -m {__package__}.report"
    )
    return f"{program} {shlex.quote(folder)}"
