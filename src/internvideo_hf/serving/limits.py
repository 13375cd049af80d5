"""Limits of the service: what a request may hold and take, and what it may name."""

import math
from dataclasses import dataclass, fields
from pathlib import Path

_OPTIONS = {
    "max_bytes": " (--max-mb)",
    "max_seconds": " (--max-seconds)",
    "max_frames": " (--max-frames)",
    "max_queue": " (--max-queue)",
    "timeout": " (--timeout)",
    "video_timeout": " (--video-timeout)",
    "max_memory": " (--max-memory)",
}


@dataclass(frozen=True)
class Limits:
    """What a request may hold and take; all numbers are above 0.

    Args:
        max_bytes: of a video, uploaded or fetched.
        max_seconds: of a video.
        max_frames: of a video.
        max_videos: of a request.
        max_queue: requests in progress; more are refused.
        timeout: seconds for a request, with the time it waits.
        video_timeout: seconds for fetching and decoding one video.
        max_memory: bytes that a decoder may have beyond what it has when idle.

    Raises:
        ValueError: if a number is out of range.
    """

    max_bytes: int = 256 << 20
    max_seconds: float = 3600.0
    max_frames: int = 250_000
    max_videos: int = 32
    max_queue: int = 128
    timeout: float = 120.0
    video_timeout: float = 60.0
    max_memory: int = 4 << 30

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < math.inf:
                raise ValueError(f"{field.name}={value}: expected a number above 0{_OPTIONS.get(field.name, '')}.")

    @property
    def max_body(self) -> int:
        """Bytes of a request's body: a video of the largest size in base64, and what stands around it."""
        return self.max_bytes * 4 // 3 + (1 << 20)

    @property
    def max_bodies(self) -> int:
        """Bytes of the bodies of all requests in progress."""
        return 4 * self.max_body


@dataclass(frozen=True)
class Access:
    """What an address in a request may name, beside public http(s) addresses.

    Args:
        hosts: names of hosts, or host:port, that may have private addresses.
        folders: folders whose files may be named as file:///PATH.

    Raises:
        ValueError: if a folder is none.
    """

    hosts: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for host in self.hosts:
            if not host or "/" in host:
                raise ValueError(f"--allow {host!r}: expected a host, such as files.local or files.local:9000.")
        for folder in self.folders:
            if not folder.is_dir():
                raise ValueError(f"--allow-dir {folder}: there is no such folder.")
        object.__setattr__(self, "folders", tuple(folder.resolve() for folder in self.folders))
