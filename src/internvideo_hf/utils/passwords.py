"""Texts without the passwords of the addresses in them."""

import re

_PATTERNS = (
    (re.compile(r"(?<=://)([^\s/:@]*):\S*@"), r"\1:***@"),  # to the last @, which passwords may hold, too
    (re.compile(r"(?i)(password=)[^&\s'\"]*"), r"\1***"),
)


def without_passwords(text: str) -> str:
    """Return a text for logs and messages: `scheme://user:password@host` reads `scheme://user:***@host`.

    Args:
        text: any text; a password in the parameters of an address (`?password=`) is hidden as well.
    """
    for pattern, hidden in _PATTERNS:
        text = pattern.sub(hidden, text)
    return text
