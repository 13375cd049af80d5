"""Warnings about names that are kept for one version."""

import sys
import warnings

_LIBRARIES = {"internvideo_hf", "torch", "transformers", "accelerate", "peft"}


def warn_deprecated(message: str) -> None:
    """Warn of a deprecated name, at the line of the user's code that led to it.

    Args:
        message: the deprecated name, and what to use in its place.
    """
    # A fixed level would blame the wrappers around `forward`, whose number depends on the caller.
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _LIBRARIES:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, FutureWarning, level)
