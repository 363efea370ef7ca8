"""The error that all modules of the benchmark raise for the user."""


class BenchError(Exception):
    """An error whose message is shown to the user: what is wrong, where, and what to do."""
