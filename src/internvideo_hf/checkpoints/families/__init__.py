"""The converters of the released files, one module a family, named by its `model_type`."""

import importlib
import pkgutil

from internvideo_hf.auto import FAMILIES
from internvideo_hf.checkpoints.converter import Converter


def converters() -> dict[str, Converter]:
    """Return the converter of each family that has released files, in the order of `auto.FAMILIES`."""
    found = {module.name for module in pkgutil.iter_modules(__path__)}
    return {
        family: importlib.import_module(f"{__name__}.{family}").CONVERTER for family in FAMILIES if family in found
    }
