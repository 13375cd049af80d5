"""The service on a port: until Ctrl-C or SIGTERM, and then until what has begun is done."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from internvideo_hf.utils.names import reason_of

KEY_VARIABLE = "INTERNVIDEO_API_KEY"
_LOCAL = ("127.0.0.1", "::1", "localhost")
_SWITCH = 5e-4  # seconds; requests and the model take turns, and by default each would wait 5 ms for its own
_KEEP_ALIVE = 15  # seconds that an idle connection stays
_PATIENCE = 30  # seconds for the head of a request
_LOOK = 5  # seconds between looks at a connection without a request


def listen(host: str, port: int) -> socket.socket:
    """Take a port, before anything is loaded.

    Args:
        host: address to listen on.
        port: 0 for any that is free.

    Raises:
        OSError: if it is in use, or the address is none of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
        if os.name == "posix":  # elsewhere it would share the port with another program
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(address)
            taken.listen(1)  # or another program could still take it
        except OSError:
            taken.close()
            raise
    except (OSError, UnicodeError) as error:
        raise OSError(
            f"Cannot listen on {host}, port {port} ({reason_of(error)}). Choose another by --port or --host."
        ) from error
    return taken


def is_local(host: str) -> bool:
    """Return whether only this machine reaches what listens on an address."""
    return host in _LOCAL


def names_of(host: str, key: str | None) -> list[str] | None:
    """Return the names under which a service answers; None for any.

    A service that only this machine reaches could be asked by web sites in a browser of its, under their own names,
    unless it needs a key, which they do not have.

    Args:
        host: the address that it listens on.
        key: that requests must carry.
    """
    return ["localhost", host] if is_local(host) and key is None else None


def read_key(file: Path | None) -> str | None:
    """Return the key of a file or of the environment (`KEY_VARIABLE`); None for none.

    Args:
        file: that holds nothing but the key.

    Raises:
        ValueError: if the key is empty, or not of printable ASCII without spaces.
        OSError: if the file cannot be read.
    """
    given = os.environ.get(KEY_VARIABLE)
    if file is not None:
        try:
            given = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise OSError(f"--key-file {file} cannot be read ({reason_of(error)}).") from error
    if given is None:
        return None
    key, place = given.strip(), KEY_VARIABLE if file is None else f"--key-file {file}"
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"{place}: expected one word of letters, digits and signs as the key.")
    return key


def run(app: FastAPI, sockets: socket.socket, on_start: Callable[[], None], patience: float) -> None:
    """Serve until Ctrl-C or SIGTERM, and then until the requests in progress are answered.

    Args:
        app: the application.
        sockets: of `listen`.
        on_start: called when it answers.
        patience: seconds for the requests in progress.

    Raises:
        ValueError: if the application cannot start.
    """
    config = uvicorn.Config(
        app,
        http=Connection,
        log_level="warning",
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(patience)),
    )
    server = _Server(config, on_start)
    # uvicorn raises the signal that ended it once more; a service that has ended well has succeeded.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    switching = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH)
    try:
        asyncio.run(server.serve([sockets]))
    finally:
        sys.setswitchinterval(switching)
        for number, handler in before.items():
            signal.signal(number, handler)
    if not server.has_started:
        raise RuntimeError("The service could not start; the message above says why.")


class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # one of two classes
    """A connection that is closed where no request comes: uvicorn would keep it as long as its client likes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to look at it."""
        super().connection_made(transport)
        self._last, self._since = None, self.loop.time()
        self.loop.call_later(_LOOK, self._look)

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is not self._last or (self.cycle is not None and not self.cycle.response_complete):
            self._last, self._since = self.cycle, self.loop.time()
        elif self.loop.time() - self._since > _PATIENCE:
            self.transport.close()
            return
        self.loop.call_later(_LOOK, self._look)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]):
        super().__init__(config)
        self._on_start = on_start
        self.has_started = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and not self.should_exit:
            self.has_started = True
            self._on_start()
