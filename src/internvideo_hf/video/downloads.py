"""Downloads of videos: with deadlines and a byte limit, and never led to addresses of the own network."""

import contextlib
import http.client
import ipaddress
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.request
import weakref
from base64 import b64encode
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, TypedDict
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from internvideo_hf.utils.names import without_number
from internvideo_hf.utils.scratch import scratch_file
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.playlists import Piece, best_variant, is_playlist, pieces
from internvideo_hf.video.settings import from_environment
from internvideo_hf.video.sources import CHECK_THE_ADDRESS, describe, split_address

_CHUNK = 1 << 20
_LONGEST_PLAYLIST = 4 << 20  # bytes
PREFIX = "INTERNVIDEO_DOWNLOAD_"


class DownloadOptions(TypedDict, total=False):
    """The fields of `DownloadSettings` as keywords."""

    timeout: float
    deadline: float
    max_bytes: int
    allow_private: bool
    allow_playlists: bool


@dataclass(frozen=True)
class DownloadSettings:
    """What a download may do, and for how long.

    The environment changes the defaults: `INTERNVIDEO_DOWNLOAD_DEADLINE=60`, `INTERNVIDEO_DOWNLOAD_ALLOW_PLAYLISTS=1`.

    Args:
        timeout: seconds until the first byte, and for each next piece of data, above 0.
        deadline: seconds for the whole download, above 0.
        max_bytes: the most bytes to accept, at least 1.
        allow_private: follow redirects and playlists to loopback, private and link-local addresses.
        allow_playlists: fetch what an HLS playlist names, by http(s) only, as one video.

    Raises:
        ValueError: if a number is out of range.
    """

    timeout: float = 30.0
    deadline: float = 600.0
    max_bytes: int = 2 << 30
    allow_private: bool = False
    allow_playlists: bool = False

    def __post_init__(self) -> None:
        if not (0 < self.timeout < threading.TIMEOUT_MAX and 0 < self.deadline < threading.TIMEOUT_MAX):
            raise ValueError(f"timeout={self.timeout}, deadline={self.deadline}: expected seconds above 0")
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes={self.max_bytes}: expected at least 1")

    @classmethod
    def default(cls) -> "DownloadSettings":
        """Return the defaults of this process: those of the environment.

        Raises:
            ValueError: if the environment holds something else than a number.
        """
        return from_environment(cls(), PREFIX)


class Download:
    """A URL's content in a temporary file, deleted on `close`, on garbage collection and at exit.

    Args:
        url: an `http` or `https` address.
        settings: limits.
        allowed: None where the user has chosen the address, which may be private. For one that a stranger has chosen,
            the hosts, such as "files.local" or "localhost:9000", that may be asked beside public ones; it is then
            fetched without the environment's proxies, which may reach more.
        folder: where the file is made; that of temporary files if None.

    Raises:
        VideoDecodeError: if the address cannot be fetched within the limits, or must not be.
    """

    def __init__(
        self,
        url: str,
        settings: DownloadSettings,
        *,
        allowed: Collection[str] | None = None,
        folder: Path | None = None,
    ):
        suffix = re.search(r"\.[A-Za-z0-9]{1,5}$", split_address(url).path)
        handle, name = scratch_file("download", suffix.group() if suffix else "", folder)
        self.path = Path(name)
        self._remove = weakref.finalize(self, _remove_own_file, name, os.getpid())
        try:
            with os.fdopen(handle, "w+b") as file, _Fetching(url, settings, allowed) as fetching:
                fetching.fetch(url, file, led=allowed is not None)
                file.seek(0)
                if is_playlist(file.read(64)):
                    fetching.fetch_playlist(url, file)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Delete the temporary file."""
        self._remove()


def _remove_own_file(name: str, owner: int) -> None:
    # A forked worker inherits this object; only the process that downloaded the file may delete it.
    if os.getpid() == owner:
        Path(name).unlink(missing_ok=True)


@contextmanager
def open_address(url: str, settings: DownloadSettings | None = None) -> Iterator[http.client.HTTPResponse]:
    """Open an http(s) address to read it as a stream; its whole content has no deadline and no limit.

    Args:
        url: the address.
        settings: limits of opening it; the defaults if None.

    Raises:
        VideoDecodeError: if it cannot be opened.
    """
    settings = settings or DownloadSettings.default()
    with _Fetching(url, settings) as fetching, fetching.open(url) as response:
        fetching.stop_clock()
        yield response


class _Fetching:
    """Requests that belong to one download, all within its limits.

    The first address is the user's own choice, unless there are `allowed` hosts. What it leads to (a redirect, an
    entry of a playlist) is the choice of whoever serves it, and must not reach what only this machine can.
    """

    def __init__(self, url: str, settings: DownloadSettings, allowed: Collection[str] | None = None):
        self._settings = settings
        self._allowed = {host.lower() for host in allowed or ()}
        self._label = describe(url)
        self._first = _origin(split_address(url))
        self._first_is_private: bool | None = None  # until it is connected
        self._clock = _Clock()
        self._ends = time.monotonic() + settings.deadline
        self._room = settings.max_bytes
        proxies: dict[str, str] | None = None if allowed is None else {}
        self._opener = urllib.request.build_opener(
            _Redirects(self), _Handler(self), _SecureHandler(self), urllib.request.ProxyHandler(proxies)
        )

    def __enter__(self) -> "_Fetching":
        return self

    def __exit__(self, *exception: object) -> None:
        self._clock.stop()

    def stop_clock(self) -> None:
        """Lift the deadline."""
        self._clock.stop()

    def fetch(self, url: str, file: IO[bytes], part: range | None = None, *, led: bool = False) -> None:
        """Append the content of an address, or a part of its bytes, to a file; `led`: the user did not choose it."""
        with self._errors_as_ours(), self.open(url, part, led=led) as response:
            self._clock.start(self._ends - time.monotonic())
            self._copy(response, file)

    def fetch_playlist(self, url: str, file: IO[bytes]) -> None:
        """Replace the playlist in a file by what it names, one behind the other."""
        if not self._settings.allow_playlists:
            advice = "Pass `allow_playlists=True` (`--allow-playlists`) to fetch them, too."
            raise VideoDecodeError(self._label, "it is a playlist, which refers to other files", advice)
        file.seek(0)
        text = file.read(_LONGEST_PLAYLIST)
        if variant := best_variant(text, self._label):
            url = urljoin(url, variant)
            file.truncate(0)
            file.seek(0)
            self.fetch(url, file, led=True)
            file.seek(0)
            text = file.read(_LONGEST_PLAYLIST)
        found: list[Piece] = pieces(text, self._label)
        file.truncate(0)
        file.seek(0)
        for piece in found:
            self.fetch(urljoin(url, piece.address), file, piece.part, led=True)

    @contextmanager
    def open(self, url: str, part: range | None = None, *, led: bool = False) -> Iterator[http.client.HTTPResponse]:
        """Open an address, within the deadline of opening."""
        parts = split_address(url)
        if led:
            self.check_led(parts)
        host = parts.netloc.rpartition("@")[2]
        try:
            # `unverifiable` is urllib's word for an address that the user did not choose.
            request = urllib.request.Request(parts._replace(netloc=host, fragment="").geturl(), unverifiable=led)
            request.add_header("User-Agent", "internvideo-hf")
            if part is not None:
                request.add_header("Range", f"bytes={part.start}-{part.stop - 1}")
            if parts.username is not None:
                user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
                # Not sent to where a redirect leads.
                request.add_unredirected_header("Authorization", f"Basic {b64encode(user.encode()).decode()}")
            self._clock.start(min(self._settings.timeout, self._ends - time.monotonic()))
            response = self._opener.open(request, timeout=self._settings.timeout)
        except VideoDecodeError:
            raise
        except (OSError, http.client.HTTPException, ValueError, OverflowError) as error:
            raise self._error(error) from error
        with response:
            if part is not None and response.status != http.client.PARTIAL_CONTENT:
                raise VideoDecodeError(self._label, "the server sends no parts of its files", CHECK_THE_ADDRESS)
            yield response

    def check(self, host: str, port: int) -> list[tuple[Any, ...]]:
        """Return what `socket.getaddrinfo` finds for a host that was led to, without addresses that are not public."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        if self._settings.allow_private or (self._first_is_private and (host, port) == self._first[1:]):
            return found
        if {host.lower(), f"{host.lower()}:{port}"} & self._allowed:
            return found
        public = [entry for entry in found if not _is_private(str(entry[4][0]))]
        if not public:
            raise _RefusedError(f"it leads to {host}, an address of this machine or of its network, which is refused")
        return public

    def connect(self, address: tuple[str, int], timeout: float, source: Any, *, led: bool) -> socket.socket:
        """Connect a socket to a host: to the very address that was checked, whatever its name means a moment later."""
        found = self.check(*address) if led else socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        problem: OSError = OSError(f"{address[0]} has no address")
        for family, kind, protocol, _, target in found:
            connected = socket.socket(family, kind, protocol)
            self._clock.watch(connected)
            try:
                connected.settimeout(timeout)
                connected.connect(target)
            except OSError as error:
                connected.close()
                problem = error
                continue
            if not led and self._first_is_private is None:
                self._first_is_private = _is_private(str(target[0]))
            return connected
        raise problem

    def check_led(self, parts: SplitResult) -> None:
        """Refuse an address that the user did not choose if its host is known not to be public."""
        try:
            self.check(*_origin(parts)[1:])
        except _RefusedError as error:
            raise self._error(error) from error
        except OSError:
            pass  # behind a proxy, which knows more names; connecting says what is wrong otherwise

    @contextmanager
    def _errors_as_ours(self) -> Iterator[None]:
        try:
            yield
        except VideoDecodeError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> VideoDecodeError:
        # A `URLError` wraps the error of the connection; a time-out while reading comes bare.
        reason = getattr(error, "reason", error)
        if isinstance(reason, _RefusedError):
            return VideoDecodeError(
                self._label, str(reason), "Pass `allow_private=True` (`--allow-private`) if you trust the server."
            )
        if isinstance(error, urllib.error.HTTPError):
            error.close()
            return VideoDecodeError(self._label, f"the server answered {error.code} {error.reason}", CHECK_THE_ADDRESS)
        if time.monotonic() >= self._ends:
            cause = f"the download took longer than {self._settings.deadline:g} s"
            return VideoDecodeError(self._label, cause, "Pass a longer `deadline` (`--download-deadline`).")
        if isinstance(reason, TimeoutError) or self._clock.has_expired:
            cause = f"no data came within {self._settings.timeout:g} s"
            return VideoDecodeError(
                self._label, cause, "Try again, or pass a longer `timeout` (`--download-timeout`)."
            )
        return VideoDecodeError(self._label, f"the download failed ({without_number(reason)})", CHECK_THE_ADDRESS)

    def _copy(self, response: http.client.HTTPResponse, file: IO[bytes]) -> None:
        announced = response.headers.get("Content-Length", "")
        expected = int(announced) if announced.isdecimal() else None
        too_large = VideoDecodeError(
            self._label,
            f"it is larger than {self._settings.max_bytes} bytes",
            "Pass a larger `max_bytes` (`--download-max-bytes`), or download the file yourself.",
        )
        if expected is not None and expected > self._room:
            raise too_large
        received = 0
        # `read1` returns what has come, so a slow server meets the limits at every piece and not at every full chunk.
        while chunk := response.read1(_CHUNK):
            received += len(chunk)
            if received > self._room:
                raise too_large
            file.write(chunk)
        if self._clock.has_expired:
            raise TimeoutError
        self._room -= received
        if received == 0:
            raise VideoDecodeError(self._label, "the server sent no data", CHECK_THE_ADDRESS)
        if expected is not None and received < expected:
            cause = f"the connection ended after {received} of {expected} bytes"
            raise VideoDecodeError(self._label, cause, "Try again.")


class _RefusedError(OSError):
    """An address leads to one that must not be reached."""


class _Clock:
    """Ends a connection after some time, in whatever call it waits: each single call has a time-out of its own."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None
        self._watched: socket.socket | None = None
        self.has_expired = False

    def start(self, seconds: float) -> None:
        self._cancel()
        self._timer = threading.Timer(max(seconds, 0.001), self._expire)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, connected: socket.socket) -> None:
        self._forget()
        # A copy of the handle: TLS takes the socket's own away.
        self._watched = connected.dup()
        if self.has_expired:
            self._expire()

    def stop(self) -> None:
        self._cancel()
        self._forget()

    def _expire(self) -> None:
        self.has_expired = True
        with contextlib.suppress(OSError, AttributeError):
            self._watched.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _forget(self) -> None:
        if self._watched is not None:
            self._watched.close()
        self._watched = None


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, fetching: _Fetching):
        self._fetching = fetching

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        parts = urlsplit(newurl)
        if parts.scheme not in ("http", "https"):
            raise urllib.error.URLError(f"it redirects to a {parts.scheme!r} address, which is refused")
        self._fetching.check_led(parts)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Handler(urllib.request.HTTPHandler):
    def __init__(self, fetching: _Fetching):
        super().__init__()
        self._fetching = fetching

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_connection, http.client.HTTPConnection, self._fetching, req), req)


class _SecureHandler(urllib.request.HTTPSHandler):
    def __init__(self, fetching: _Fetching):
        super().__init__()
        self._fetching = fetching

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_connection, http.client.HTTPSConnection, self._fetching, req), req)


def _connection(
    kind: type[http.client.HTTPConnection],
    fetching: _Fetching,
    request: urllib.request.Request,
    host: str,
    **options: Any,
) -> http.client.HTTPConnection:
    connection = kind(host, **options)
    # Of a proxy, which the user has chosen, only the address that it is asked for can be checked.
    led = request.unverifiable and not request.has_proxy() and not getattr(request, "_tunnel_host", None)
    connection._create_connection = partial(fetching.connect, led=led)  # type: ignore[attr-defined]
    return connection


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]


def _is_private(address: str) -> bool:
    """Return whether an IP address is none of the public Internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        teredo = ip.teredo[1] if ip.teredo else None
        inner = ip.ipv4_mapped or ip.sixtofour or teredo
        if ip in ipaddress.ip_network("64:ff9b::/96"):  # IPv4 behind a translator
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if ip in ipaddress.ip_network("::/96"):  # IPv4 as of old
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if ip.is_site_local or ip in ipaddress.ip_network("64:ff9b:1::/48"):
            return True
        if inner is not None:
            ip = inner
    return not ip.is_global or ip.is_multicast or ip.is_reserved
