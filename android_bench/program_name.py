"""What the user called a program of this package."""

import sys


def program_name(module: str) -> str:
    """Returns `fd-keras COMMAND` if the console command called it, or else `python -m ...`.

    Args:
        module: Name of the program's module.
    """
    return sys.argv[0] if sys.argv[0].startswith("fd-keras ") else f"python -m {__package__}.{module}"
