"""The store interface and its implementations."""

import inspect

import pytest

from internvideo_hf.search.stores.base import VectorStore
from internvideo_hf.search.stores.local import LocalStore

METHODS = [name for name, value in vars(VectorStore).items() if inspect.isfunction(value) and name != "__init__"]


@pytest.mark.parametrize("name", [name for name in METHODS if not name.startswith("_") or name == "__len__"])
def test_the_local_store_has_the_methods_of_the_interface(name):
    assert inspect.signature(getattr(LocalStore, name)) == inspect.signature(getattr(VectorStore, name))
