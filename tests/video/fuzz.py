"""Damage to video files, by kind: the clips are small, the damage is drawn from a seed."""

import random
from collections.abc import Iterator

# Names of tables in each format, which lies are written into.
_TABLES = {
    "mp4": (
        b"mvhd",
        b"mdhd",
        b"elst",
        b"stts",
        b"ctts",
        b"stsz",
        b"stco",
        b"stsc",
        b"stss",
        b"tkhd",
        b"avcC",
        b"hvcC",
    ),
    "avi": (b"avih", b"strh", b"strf", b"idx1", b"LIST"),
    "mkv": (b"\x44\x89", b"\x23\xe3\x83", b"\x1f\x43\xb6\x75", b"\xb0", b"\x1c\x53\xbb\x6b"),
    "webm": (b"\x44\x89", b"\x23\xe3\x83", b"\x1f\x43\xb6\x75", b"\xb0", b"\x1c\x53\xbb\x6b"),
    "ts": (b"\x47",),
    "mpg": (b"\0\0\1\xb3", b"\0\0\1\xb8", b"\0\0\1\xba"),
    "gif": (b"\x21\xf9", b"\x2c\0\0\0\0"),
}
_LIES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\0\1\0\0")


def mutants(content: bytes, suffix: str, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield (kind of damage, content) of a file, twice for each kind."""
    draw, size = random.Random(seed), len(content)
    for number in range(2):
        for kind, (low, high) in {"head": (0, 1024), "tail": (size - 2048, size)}.items():
            flipped = bytearray(content)
            for _ in range(draw.choice([1, 2, 4])):
                flipped[draw.randrange(max(low, 0), min(high, size))] ^= 1 << draw.randrange(8)
            yield f"{kind}{number}", bytes(flipped)
        payload = bytearray(content)
        for _ in range(draw.choice([1, 3, 10])):
            payload[draw.randrange(size // 20, size * 9 // 10)] = draw.randrange(256)
        yield f"payload{number}", bytes(payload)
        yield f"cut{number}", content[: draw.randrange(size // 10, size)]
        start, length = draw.randrange(size // 10, size * 3 // 4), draw.choice([64, 500, 3000])
        yield f"zeros{number}", content[:start] + bytes(min(length, size - start)) + content[start + length :]
        yield f"hole{number}", content[:start] + content[start + length :]
        yield f"twice{number}", content[: start + length] + content[start:]
        here, there = sorted(draw.sample(range(size // 10, size - 512), 2))
        swapped = bytearray(content)
        swapped[here : here + 512], swapped[there : there + 512] = (
            content[there : there + 512],
            content[here : here + 512],
        )
        yield f"swapped{number}", bytes(swapped[:size])
        lie = bytearray(content)
        table = draw.choice([name for name in _TABLES[suffix] if name in content])
        place = content.index(table) + len(table) + draw.randrange(24)
        lie[place : place + 4] = draw.choice(_LIES)
        yield f"lie{number}", bytes(lie[:size])
