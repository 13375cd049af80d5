"""Keeps folders of this machine off the page: in messages, and in the names of served files (ASGI middleware)."""

import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

_ALIAS = "/files-of-the-page"
_WRITTEN = (b"text/", b"application/json")  # types of content that may name a file; others are the bytes of one
# From a slash that no word, no address and no tag precedes, to the last slash; folders may have spaces inside.
_FOLDERS = re.compile(r"(?:file://|(?<![\w.:/<]))/(?:[^\s/](?:[^/\n]*[^\s/'\"(,:])?/)+")

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Scope]]
_Send = Callable[[_Scope], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


def without_folders(text: str) -> str:
    """Return a text with the last part of each absolute path in place of the path."""
    return _FOLDERS.sub("", text)


class PathAlias:
    """Writes an alias for a folder into answers, and the folder for its alias into requests.

    Gradio names uploads and pictures by their absolute paths. The alias has as many bytes as the path, so the lengths
    that answers and requests state stay true.

    Args:
        app: the application behind it.
        folder: the folder, absolute.
    """

    def __init__(self, app: _App, folder: Path):
        self._app = app
        self._folder = os.fsencode(folder)
        self._alias = _ALIAS.ljust(len(self._folder), "-")[: len(self._folder)].encode()

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Pass a request on, and its answer back; see the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].replace(self._alias.decode(), os.fsdecode(self._folder))
        asked = self._resolved(receive) if _is_written(scope) else receive
        await self._app({**scope, "path": path}, asked, self._aliased(send))

    def _resolved(self, receive: _Receive) -> _Receive:
        async def receive_whole() -> _Scope:
            message = await receive()
            content = message.get("body", b"")
            while message.get("more_body"):  # an alias may be divided; `Guard` bounds the length
                message = await receive()
                content += message.get("body", b"")
            return {**message, "body": content.replace(self._alias, self._folder)} if content else message

        return receive_whole

    def _aliased(self, send: _Send) -> _Send:
        is_written = False

        async def send_aliased(message: _Scope) -> None:
            nonlocal is_written
            if message["type"] == "http.response.start":
                is_written = _is_written(message)
            elif is_written and message.get("body"):  # gradio sends each answer and each event whole
                message = {**message, "body": message["body"].replace(self._folder, self._alias)}
            await send(message)

        return send_aliased


def _is_written(message: _Scope) -> bool:
    headers = {name.lower(): value for name, value in message.get("headers", ())}
    return bool(headers.get(b"content-type", b"").startswith(_WRITTEN))
