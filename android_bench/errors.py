"""The error that every part of the benchmark raises for the user."""


class BenchError(Exception):
    """A failure that its message explains to the user: what is wrong, where, and what to do."""
