"""Which requests are answered at all: with the key, of a bounded size, and not too many at once (ASGI middleware)."""

import asyncio
import hashlib
import hmac
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from internvideo_hf.serving.errors import RequestError
from internvideo_hf.serving.limits import Limits
from internvideo_hf.serving.metrics import Metrics

_OPEN = ("/health", "/docs", "/openapi.json")
"""Paths that need no key: they say nothing of the model's videos, and take no time of it."""

_LINGER = 5.0  # seconds
CLOSED = 499
"""Status, for figures only, of a request whose client has gone."""

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Scope]]
_Send = Callable[[_Scope], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


class Guard:
    """Refuses requests before their body is read, and ends those that take too long or whose client goes.

    Args:
        app: the application behind it.
        limits: of requests.
        metrics: figures to count.
        key: that requests must carry (`Authorization: Bearer KEY`); None for none.
        names: hosts under which the service may be asked for, beside numeric addresses; None for any. A web site can
            let its own name point to this machine (DNS rebinding), and its requests then carry that name. Pages of
            other sites are refused as well, unless this is None.
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
        may_have_body = scope["method"] not in ("GET", "HEAD", "OPTIONS")
        begin, answer = time.perf_counter(), _Answer(receive, send, may_have_body)
        endpoint = scope["path"] if scope["path"] in self._endpoints else "other"
        try:
            await self._guarded(scope, answer)
        finally:
            status = answer.status or (CLOSED if answer.is_gone else 500)
            self._metrics.requests.labels(endpoint, str(status)).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - begin)

    async def _guarded(self, scope: _Scope, answer: "_Answer") -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        is_work = scope["method"] == "POST"
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
                if is_work:
                    await self._attended(scope, answer)
                else:
                    await self._app(scope, answer.receive, answer.send)
        except TimeoutError:
            if not clock.expired() or answer.status is not None:
                raise
            seconds = f"{self._limits.timeout:g} seconds"
            late = (f"The request took longer than {seconds}. Try again later.", 504)
            if not answer.is_received:
                late = (f"The request did not arrive within {seconds}.", 408)
            await answer.refuse(RequestError(*late, "timeout"), is_late=True)
        finally:
            self._in_progress -= is_work
            self._bytes -= size
            self._metrics.in_progress.set(self._in_progress)

    async def _attended(self, scope: _Scope, answer: "_Answer") -> None:
        """Pass a request on, and end it when its client goes: nobody would read the answer."""
        work = asyncio.ensure_future(self._app(scope, answer.receive, answer.send))
        going = asyncio.ensure_future(answer.gone())
        try:
            await asyncio.wait((work, going), return_when=asyncio.FIRST_COMPLETED)
            if not answer.is_gone:
                await asyncio.wait((work,))
        finally:
            is_done = work.done()
            work.cancel()
            going.cancel()
            await asyncio.gather(work, going, return_exceptions=True)
        if is_done:
            work.result()

    def _check_caller(self, path: str, headers: dict[str, str]) -> None:
        """Refuse who may not ask."""
        if self._names is not None:
            host, origin = headers.get("host", ""), headers.get("origin")
            if not _is_own(host, self._names):
                raise RequestError("The service does not answer under this name.", 403, "wrong_host")
            # A form of a web site is sent without asking, though its answer is kept from the site.
            if origin is not None and origin.partition("://")[2].lower() != host.lower():
                raise RequestError("The service does not answer pages of other sites.", 403, "wrong_origin")
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
        is_gone: the client has closed the connection before its answer.

    Args:
        receive: of the server.
        send: of the server.
        has_body: the request may have one.
    """

    def __init__(self, receive: _Receive, send: _Send, has_body: bool):
        self._receive, self._send = receive, send
        self._waits_for_body, self._is_sent = has_body, False
        self._all_received = asyncio.Event()
        self.status: int | None = None
        self.is_gone = False

    @property
    def is_received(self) -> bool:
        """Whether the whole request has come."""
        return self._all_received.is_set()

    async def receive(self) -> _Scope:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.is_gone |= not self._is_sent
        elif not message.get("more_body", False):
            self._all_received.set()
        return message

    async def gone(self) -> None:
        """Return when the client has gone, or has the answer, after its whole request has come."""
        await self._all_received.wait()
        while (await self.receive())["type"] != "http.disconnect":
            await asyncio.sleep(0.1)  # servers may say at once, again and again, that there is no more

    async def send(self, message: _Scope) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif not message.get("more_body", False):
            if self._waits_for_body and not self.is_received:
                await self._send({**message, "more_body": True})
                await self._discard()
                message = {"type": "http.response.body"}
            self._is_sent = True
        await self._send(message)

    async def refuse(self, error: RequestError, is_late: bool = False) -> None:
        """Send a refusal.

        Args:
            error: the refusal.
            is_late: what is left of the request is not waited for.
        """
        self._waits_for_body &= not is_late
        content = json.dumps(error.to_dict()).encode()
        headers = {"content-type": "application/json", "content-length": str(len(content)), "connection": "close"}
        pairs = [(name.encode(), value.encode()) for name, value in (headers | error.headers).items()]
        await self.send({"type": "http.response.start", "status": error.status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": content})

    async def _discard(self) -> None:
        """Take what is left of a request that is answered early.

        A client that is still sending when the connection closes loses the answer with it.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while not self.is_received and not self.is_gone:
                    await self.receive()


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
