"""Runs programs on request, each in a fork of this process, which has imported the modules in its arguments.

Importing TensorFlow takes longer than most tests of a program. A request is a line of JSON on standard input: module,
arguments, environment variables to set, and working directory. The answer is a line of JSON on standard output: exit
status, standard output and standard error of the program.
"""

import gc
import importlib
import json
import os
import runpy
import sys
import tempfile


def answer(child: int, out, err) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    texts = []
    for file in (out, err):
        file.seek(0)
        texts.append(file.read().decode(errors="replace"))
    print(json.dumps([code, *texts]), flush=True)


def exec_module(module: str, arguments: list[str], environment: dict[str, str], folder: str, out, err) -> None:
    """Turns this process into `python -m module arguments`."""
    sys.path.insert(0, os.getcwd())
    os.chdir(folder)
    os.environ.update(environment)
    for descriptor, file in enumerate((open(os.devnull, "rb"), out, err)):
        os.dup2(file.fileno(), descriptor)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main() -> None:
    for module in sys.argv[1:]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # otherwise the garbage collector of a fork copies all imported pages by writing to them
    for line in sys.stdin:
        out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        child = os.fork()
        if not child:
            exec_module(*json.loads(line), out, err)
            return  # the interpreter exits as for a program, even after an exception
        answer(child, out, err)


if __name__ == "__main__":
    main()
