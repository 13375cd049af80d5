"""HLS playlists: variants, parts, and what is refused."""

import pytest

from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.playlists import Piece, best_variant, is_playlist, pieces

_END = b"\n#EXT-X-ENDLIST\n"


def test_the_variant_with_the_highest_bandwidth_is_taken():
    # The example of RFC 8216, section 8.4.
    master = b"""#EXTM3U
#EXT-X-STREAM-INF:BANDWIDTH=1280000,AVERAGE-BANDWIDTH=1000000
http://example.com/low.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=7680000,AVERAGE-BANDWIDTH=6000000
http://example.com/hi.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=65000,CODECS="mp4a.40.5"
http://example.com/audio-only.m3u8
"""
    assert best_variant(master, "a") == "http://example.com/hi.m3u8"
    assert best_variant(b"#EXTM3U\n#EXTINF:9,\na.ts" + _END, "a") is None


def test_pieces_follow_each_other():
    # RFC 8216, section 4.3.2.2: a range without a start begins behind the last one of the same file.
    content = b"""\xef\xbb\xbf#EXTM3U
#EXT-X-MAP:URI="head.mp4",BYTERANGE="7@3"
#EXT-X-BYTERANGE:10@0
#EXTINF:1,
all.ts

#EXT-X-BYTERANGE:20
all.ts\r
http://host/b.ts
#EXT-X-ENDLIST
"""
    assert pieces(content, "a") == [
        Piece("head.mp4", range(3, 10)),
        Piece("all.ts", range(10)),
        Piece("all.ts", range(10, 30)),
        Piece("http://host/b.ts"),
    ]


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"#EXTM3U\n#EXTINF:9,\na.ts\n", "has no end"),
        (b"#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\na.ts" + _END, "is encrypted"),
        (b"#EXTM3U" + _END, "names 0 files"),
        (b"#EXTM3U\n" + b"a.ts\n" * 20_001 + _END, "names 20001 files"),
        (b"#EXTM3U\n#EXT-X-MAP:URI=\"a\"\na.ts\n#EXT-X-MAP:URI=\"b\"\nb.ts" + _END, "encoding changes"),
        (b"#EXTM3U\n#EXT-X-BYTERANGE:-1@0\na.ts" + _END, "'-1' in place of a number"),
        (b"#EXTM3U\n\xff\xfe" + _END, "not a text"),
        (b"\0\0\0\x20ftyp", "names another file in place of a playlist"),
    ],
)  # fmt: skip
def test_other_playlists_are_refused(content, cause):
    with pytest.raises(VideoDecodeError, match=cause):
        pieces(content, "a")


def test_playlists_are_known_by_their_first_line():
    assert is_playlist(b"#EXTM3U\n") and is_playlist(b"\xef\xbb\xbf#EXTM3U\n")
    assert not is_playlist(b"ffconcat version 1.0")
