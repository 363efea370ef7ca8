"""That the libraries are loaded late, and what is said where one is missing."""

import subprocess
import sys

import pytest

from fd_keras import backbones
from tests.test_tree import loaded_by


def test_importing_the_package_loads_neither_library():
    assert not loaded_by("fd_keras", "fd_keras.backbones") & {"keras", "keras_cv", "keras_hub"}


MISSING = """
import sys
sys.modules |= {"keras_cv": None, "keras_hub": None}
from fd_keras import backbones
for name in ("KerasCVBackbone", "KerasHubBackbone"):
    try:
        getattr(backbones, name)
    except ImportError as error:
        print(error)
"""


def test_a_missing_library_is_named():
    done = subprocess.run([sys.executable, "-c", MISSING], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        f'{name} is not installed: pip install "fd-keras[{extra}]"'
        for name, extra in (("keras_cv", "keras-cv"), ("keras_hub", "keras-hub"))
    ]


def test_other_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="has no attribute 'Backbone'"):
        backbones.Backbone  # noqa: B018
    assert set(backbones.__all__) <= set(dir(backbones))
