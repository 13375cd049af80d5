"""What the page answers at all: requests to its own name, of a bounded size (ASGI middleware)."""

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MOST_UPLOAD = 1 << 30
"""Bytes of an uploaded file."""

MOST_UPLOADS = 4 << 30
"""Bytes of all uploaded files and cut clips together; a day after their upload gradio deletes them."""

_MOST_QUERY = 1 << 20  # bytes of any other request
_FORM = 1 << 16  # bytes that a form adds to the file in it

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Scope]]
_Send = Callable[[_Scope], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


def own_names(listens_on: str, names: Collection[str] = ()) -> set[str]:
    """Return the names under which the page may be asked for; numeric addresses may be used anyway.

    Args:
        listens_on: the address that the server listens on.
        names: further ones, such as that of a proxy.
    """
    own = {"localhost", listens_on, *names}
    if listens_on not in ("localhost", "127.0.0.1", "::1"):
        own |= {socket.gethostname(), socket.getfqdn()}
    return {name.lower().rstrip(".") for name in own}


class Guard:
    """Refuses requests that another web site sends through the user's browser, and those that are too large.

    A web site can let its own name point to this machine (DNS rebinding); its requests then carry that name.

    Args:
        app: the application behind it.
        names: see `own_names`.
        folder: where uploads are kept.
    """

    def __init__(self, app: _App, names: Collection[str], folder: Path):
        self._app = app
        self._names = names
        self._folder = folder

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer a request, or pass it on; see the ASGI specification."""
        problem = self._problem(scope) if scope["type"] in ("http", "websocket") else None
        if problem is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            status, text = problem
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": text.encode()})

    def _problem(self, scope: _Scope) -> tuple[int, str] | None:
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        hosts = [value for name, value in headers if name == "host"]
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return 403, "This page does not answer under this name. Name it by --allow-host, or use localhost.\n"
        if scope["type"] == "websocket" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        length = next((value for name, value in headers if name == "content-length"), "")
        if not length.isdecimal():
            return 411, "A request must say its length.\n"
        is_upload = scope["path"].rstrip("/").endswith("/upload")
        if int(length) > (MOST_UPLOAD + _FORM if is_upload else _MOST_QUERY):
            return 413, f"Too large; uploads may have {MOST_UPLOAD >> 20} MiB.\n"
        if is_upload and self._used() + int(length) > MOST_UPLOADS:
            return 507, "The space for uploads is used up. Try again later.\n"
        return None

    def _is_own(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _used(self) -> int:
        used = 0
        for file in self._folder.rglob("*"):
            with suppress(OSError):  # deleted meanwhile
                used += file.stat().st_size if file.is_file() else 0
        return used
