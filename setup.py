"""Packaging of fd_keras; the metadata is in pyproject.toml."""

from setuptools import setup

setup()
