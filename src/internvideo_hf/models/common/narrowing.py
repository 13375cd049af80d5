"""Narrow optional values for the type checker."""

from typing import TypeVar

Value = TypeVar("Value")


def known(value: Value | None) -> Value:
    """Return a value that is optional in its declaration alone, such as a size that `__post_init__` has computed.

    Args:
        value: not None.
    """
    assert value is not None
    return value


def of_type(value: object, kind: type[Value]) -> Value:
    """Return a value that is declared wider than it is, such as a configuration that may be given as a dict.

    Args:
        value: an instance.
        kind: its class.
    """
    assert isinstance(value, kind)
    return value
