"""Lazy loading of the libraries, and the error if one is missing."""

import sys

import pytest

from fd_keras import backbones
from tests.test_tree import loaded_by


def test_importing_the_package_loads_neither_library():
    assert not loaded_by("fd_keras", "fd_keras.backbones") & {"keras", "keras_cv", "keras_hub"}


@pytest.mark.parametrize(
    ("name", "library", "extra"),
    [("KerasCVBackbone", "keras_cv", "keras-cv"), ("KerasHubBackbone", "keras_hub", "keras-hub")],
)
def test_a_missing_library_is_named(monkeypatch, name, library, extra):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"fd_keras.backbones.{library}_backbone", raising=False)
    monkeypatch.delitem(vars(backbones), name, raising=False)  # set by earlier tests
    with pytest.raises(ImportError, match=rf'^{library} is not installed: pip install "fd-keras\[{extra}\]"$'):
        getattr(backbones, name)


def test_other_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="has no attribute 'Backbone'"):
        backbones.Backbone  # noqa: B018
    assert set(backbones.__all__) <= set(dir(backbones))
