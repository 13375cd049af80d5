"""HLS playlists (RFC 8216): which addresses make up a video."""

import re
from dataclasses import dataclass

from internvideo_hf.video.errors import VideoDecodeError

_MOST_PIECES = 20_000
_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)')
_DOWNLOAD_IT = "Download it with a tool for streams, and pass the file."


@dataclass(frozen=True)
class Piece:
    """A file of a playlist.

    Attributes:
        address: absolute, or relative to that of the playlist.
        part: the bytes to take; None for all.
    """

    address: str
    part: range | None = None


def is_playlist(head: bytes) -> bool:
    """Return whether a content begins as an HLS playlist does.

    Args:
        head: its first bytes.
    """
    return head.removeprefix(b"\xef\xbb\xbf").startswith(b"#EXTM3U")


def best_variant(content: bytes, label: str) -> str | None:
    """Return the address of the variant with the highest bandwidth; None for a playlist without variants.

    Args:
        content: of the playlist.
        label: name of the source for messages.

    Raises:
        VideoDecodeError: if it is not a playlist.
    """
    best, highest, bandwidth = None, -1, None
    for line in _lines(content, label):
        if line.startswith("#EXT-X-STREAM-INF:"):
            bandwidth = _number(_attributes(line).get("BANDWIDTH", "0"), label)
        elif bandwidth is not None and not line.startswith("#"):
            if bandwidth > highest:
                best, highest = line, bandwidth
            bandwidth = None
    return best


def pieces(content: bytes, label: str) -> list[Piece]:
    """Return the files of a playlist in their order; one behind the other they are the video.

    Args:
        content: of the playlist.
        label: name of the source for messages.

    Raises:
        VideoDecodeError: if it is not a playlist, or one that goes on, is encrypted, or changes its kind.
    """
    lines = _lines(content, label)
    if "#EXT-X-ENDLIST" not in lines:
        raise VideoDecodeError(label, "the playlist has no end, as that of a broadcast", _DOWNLOAD_IT)
    found: list[Piece] = []
    head: Piece | None = None
    bytes_of: str | None = None
    ends: dict[str, int] = {}  # the byte behind the last part of an address
    for line in lines:
        if line.startswith("#EXT-X-KEY:") and _attributes(line).get("METHOD") != "NONE":
            raise VideoDecodeError(label, "the playlist is encrypted", _DOWNLOAD_IT)
        if line.startswith("#EXT-X-BYTERANGE:"):
            bytes_of = line.partition(":")[2]
        elif line.startswith("#EXT-X-MAP:"):
            known = _attributes(line)
            piece = Piece(known.get("URI", ""), _part(known["BYTERANGE"], 0, label) if "BYTERANGE" in known else None)
            if head not in (None, piece):
                raise VideoDecodeError(label, "the encoding changes within the playlist", _DOWNLOAD_IT)
            if head is None:
                found.append(piece)
            head = piece
        elif not line.startswith("#"):
            part = _part(bytes_of, ends.get(line, 0), label) if bytes_of else None
            if part is not None:
                ends[line] = part.stop
            found.append(Piece(line, part))
            bytes_of = None
    if not found or len(found) > _MOST_PIECES:
        cause = f"the playlist names {len(found)} files, expected 1 to {_MOST_PIECES}"
        raise VideoDecodeError(label, cause, _DOWNLOAD_IT)
    return found


def _lines(content: bytes, label: str) -> list[str]:
    if not is_playlist(content):
        raise VideoDecodeError(label, "the playlist names another file in place of a playlist", _DOWNLOAD_IT)
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise VideoDecodeError(label, f"the playlist is not a text ({error})", _DOWNLOAD_IT) from error
    return [line.strip() for line in lines if line.strip()]


def _attributes(line: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(line.partition(":")[2])}


def _part(text: str, default: int, label: str) -> range:
    """Return the bytes of `length@start`; without a start they follow the last ones."""
    length, _, start = text.partition("@")
    first = _number(start, label) if start else default
    return range(first, first + _number(length, label))


def _number(text: str, label: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text.strip()):
        raise VideoDecodeError(label, f"the playlist has {text[:40]!r} in place of a number", _DOWNLOAD_IT)
    return int(text)
