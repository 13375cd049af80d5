"""Which requests are answered at all: with the key, of a bounded size, and not too many at once (ASGI middleware)."""

import asyncio
import hashlib
import hmac
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from internvideo_hf.serving.errors import RequestError
from internvideo_hf.serving.limits import Limits
from internvideo_hf.serving.metrics import Metrics

_OPEN = ("/health", "/docs", "/openapi.json")
"""Paths that need no key: they say nothing of the model's videos, and take no time of it."""

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Scope]]
_Send = Callable[[_Scope], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


class Guard:
    """Refuses requests before their body is read, and ends those that take too long.

    Args:
        app: the application behind it.
        limits: of requests.
        metrics: figures to count.
        key: that requests must carry (`Authorization: Bearer KEY`); None for none.
        names: hosts under which the service may be asked for, beside numeric addresses; None for any. A web site can
            let its own name point to this machine (DNS rebinding), and its requests then carry that name.
        endpoints: paths to count by; all others are counted as "other".
    """

    def __init__(
        self,
        app: _App,
        limits: Limits,
        metrics: Metrics,
        key: str | None = None,
        names: Collection[str] | None = None,
        endpoints: Collection[str] = (),
    ):
        self._app, self._limits, self._metrics = app, limits, metrics
        self._key = None if key is None else _digest(key)
        self._names = None if names is None else {name.lower() for name in names}
        self._endpoints = frozenset(endpoints)
        self._in_progress = self._bytes = 0

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer a request, or pass it on; see the ASGI specification."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return
        begin, answer = time.perf_counter(), _Answer(receive, send)
        endpoint = scope["path"] if scope["path"] in self._endpoints else "other"
        try:
            await self._guarded(scope, answer)
        finally:
            self._metrics.requests.labels(endpoint, str(answer.status or 500)).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - begin)

    async def _guarded(self, scope: _Scope, answer: "_Answer") -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        is_work = scope["method"] not in ("GET", "HEAD", "OPTIONS")
        try:
            self._check_caller(scope["path"], headers)
            size = self._check_size(headers) if is_work else 0
        except RequestError as error:
            await answer.refuse(error)
            return
        self._in_progress += is_work
        self._bytes += size
        self._metrics.in_progress.set(self._in_progress)
        try:
            async with asyncio.timeout(self._limits.timeout) as clock:
                await self._app(scope, answer.receive, answer.send)
        except TimeoutError:
            if not clock.expired() or answer.status is not None:
                raise
            seconds = f"{self._limits.timeout:g} seconds"
            late = (f"The request took longer than {seconds}. Try again later.", 504)
            if not answer.is_received:
                late = (f"The request did not arrive within {seconds}.", 408)
            await answer.refuse(RequestError(*late, "timeout"))
        finally:
            self._in_progress -= is_work
            self._bytes -= size
            self._metrics.in_progress.set(self._in_progress)

    def _check_caller(self, path: str, headers: dict[str, str]) -> None:
        """Refuse who may not ask."""
        if self._names is not None and not _is_own(headers.get("host", ""), self._names):
            raise RequestError("The service does not answer under this name.", 403, "wrong_host")
        if self._key is None or path in _OPEN:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # Of equal length, so that the time tells nothing.
        if not hmac.compare_digest(_digest(given.strip()), self._key) or scheme.lower() != "bearer":
            raise RequestError("The key is missing or wrong: send Authorization: Bearer KEY.", 401, "wrong_key")

    def _check_size(self, headers: dict[str, str]) -> int:
        """Return the bytes of a body; refuse what is too large, and what comes when there is too much already."""
        length = headers.get("content-length", "")
        if "transfer-encoding" in headers or not (length.isascii() and length.isdecimal() and len(length) < 16):
            raise RequestError("A request must say its length (Content-Length).", 411, "length_required")
        size, limits = int(length), self._limits
        if size > limits.max_body:
            message = f"The request has {size} bytes, and at most {limits.max_body} are taken."
            raise RequestError(message, 413, "too_large")
        if self._in_progress >= limits.max_queue or self._bytes + size > limits.max_bodies:
            raise RequestError("Too many requests are in progress. Try again later.", 429, "too_many_requests")
        return size


class _Answer:
    """The two ends of one request, and what has passed them.

    Attributes:
        status: of the response, once it has begun.
        is_received: the whole request has come.
    """

    def __init__(self, receive: _Receive, send: _Send):
        self._receive, self._send = receive, send
        self.status: int | None = None
        self.is_received = False

    async def receive(self) -> _Scope:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self.is_received = True
        return message

    async def send(self, message: _Scope) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)

    async def refuse(self, error: RequestError) -> None:
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        headers += [(b"retry-after", b"1")] if error.status == 429 else []
        headers += [(b"www-authenticate", b"Bearer")] if error.status == 401 else []
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": json.dumps(error.to_dict()).encode()})


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _is_own(host: str, names: Collection[str]) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        if name in names:
            return True
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
