"""Downloads: limits of time and size, and where redirects and playlists may lead."""

import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from servers import Quiet, serve
from video.clips import decode_in_order, write_video

from internvideo_hf.video import VideoReader
from internvideo_hf.video.downloads import Download, DownloadSettings, _is_private, open_address
from internvideo_hf.video.errors import VideoDecodeError


class _Handler(Quiet):
    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers)))
        answer = self.server.answers.get(self.path, (404, {}, b""))
        if callable(answer):
            return answer(self)
        status, headers, content = answer
        if "Range" in self.headers and status == 200:
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            status, content = 206, content[first : last + 1]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def _serve(answers):
    """Serve answers by path; yields the address, and what was asked for."""
    seen = []
    with serve(_Handler, answers=answers, seen=seen) as address:
        yield address, seen


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "a.mp4", 12)


@pytest.fixture
def content(video) -> tuple:
    return 200, {}, video.read_bytes()


def _to(address: str) -> tuple:
    return 302, {"Location": address}, b""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0.0.0.0"])
def test_a_redirect_into_the_own_network_is_refused(content, host):
    with _serve({"/a.mp4": content}) as (inner, asked):
        target = f"http://{host}:{inner.rpartition(':')[2]}/a.mp4"
        with _serve({"/a.mp4": _to(target), "/twice.mp4": _to("/a.mp4")}) as (outer, _):
            for name in ("a.mp4", "twice.mp4"):
                with pytest.raises(VideoDecodeError, match="an address of this machine or of its network.*allow_priv"):
                    VideoReader(f"{outer}/{name}")
            assert not asked
            assert VideoReader(f"{outer}/a.mp4", allow_private=True).num_frames == 12


def test_a_redirect_on_the_same_server_is_followed(content):
    with _serve({"/a.mp4": _to("/b.mp4"), "/b.mp4": content}) as (server, _):
        assert VideoReader(f"{server}/a.mp4").num_frames == 12


def test_a_public_name_that_turns_private_is_refused(content, monkeypatch):
    """Rebinding: the second look-up of the same name gives another address than the first."""
    import socket

    find = socket.getaddrinfo
    with _serve({"/a.mp4": _to("/b.mp4"), "/b.mp4": content}) as (server, asked):
        port = int(server.rpartition(":")[2])

        def lookup(host, *arguments, **keywords):
            return find("127.0.0.1" if host == "movies.test" else host, *arguments, **keywords)

        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        first = iter([False])
        monkeypatch.setattr("internvideo_hf.video.downloads._is_private", lambda address: next(first, True))
        with pytest.raises(VideoDecodeError, match="it leads to movies.test"):
            VideoReader(f"http://movies.test:{port}/a.mp4")
        assert [path for path, _ in asked] == ["/a.mp4"]


@pytest.mark.parametrize(
    ("address", "private"),
    [
        *(("8.8.8.8", False), ("2606:4700::1111", False), ("10.0.0.1", True), ("172.16.3.4", True)),
        *(("192.168.0.1", True), ("169.254.169.254", True), ("100.64.0.1", True), ("127.0.0.53", True)),
        *(("::1", True), ("fe80::1%eth0", True), ("fd00::1", True), ("::ffff:10.0.0.1", True), ("0.0.0.0", True)),
        *(("64:ff9b::7f00:1", True), ("64:ff9b::808:808", False), ("2002:7f00:1::", True), ("224.0.0.1", True)),
        *(("::7f00:1", True), ("64:ff9b:1::1", True), ("fec0::1", True)),
    ],
)
def test_private_addresses_are_known(address, private):
    assert _is_private(address) is private


def test_the_address_of_a_stranger_may_be_public_or_allowed(content, monkeypatch):
    with _serve({"/a.mp4": content, "/away.mp4": _to("http://localhost:9/a.mp4")}) as (server, asked):
        host, settings = server.removeprefix("http://"), DownloadSettings()
        # A proxy would reach what this process must not.
        monkeypatch.setenv("http_proxy", server)
        for allowed in ((), ("localhost",), (f"127.0.0.1:{int(host.rpartition(':')[2]) + 1}",)):
            with pytest.raises(VideoDecodeError, match=r"it leads to 127.0.0.1, an address of this machine"):
                Download(f"{server}/a.mp4", settings, allowed=allowed)
        assert not asked
        for allowed in (("127.0.0.1",), (host,)):
            download = Download(f"{server}/a.mp4", settings, allowed=allowed)
            assert download.path.read_bytes() == content[2]
            download.close()
            with pytest.raises(VideoDecodeError, match="it leads to localhost, an address of this machine"):
                Download(f"{server}/away.mp4", settings, allowed=allowed)


def _drip(seconds: float, head: bytes):
    def answer(handler):
        handler.wfile.write(head)
        for _ in range(int(seconds / 0.05)):
            try:
                handler.wfile.write(b"X-A: 1\r\n" if b"\r\n\r\n" not in head else b"0")
            except OSError:
                return
            time.sleep(0.05)

    return answer


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("/header", {"timeout": 0.3}, "no data came within 0.3 s.*`timeout`"),
        ("/header", {"timeout": 5, "deadline": 0.3}, "took longer than 0.3 s.*`deadline`"),
        ("/body", {"timeout": 5, "deadline": 0.4}, "took longer than 0.4 s.*`deadline`"),
        ("/body", {"max_bytes": 3}, "larger than 3 bytes"),
    ],
)
def test_a_server_that_sends_byte_by_byte_meets_the_deadlines(path, options, message):
    head = b"HTTP/1.1 200 OK\r\n"
    with _serve({"/header": _drip(3, head), "/body": _drip(3, head + b"\r\n")}) as (server, _):
        began = time.monotonic()
        with pytest.raises(VideoDecodeError, match=message):
            VideoReader(f"{server}{path}", **options)
        assert time.monotonic() - began < 2
        assert not [t for t in threading.enumerate() if isinstance(t, threading.Timer) and not t.finished.is_set()]


@pytest.mark.parametrize(
    "address",
    ["http://[::1", "http://[::1/a.mp4?token=secret", "http://a:b@[x/a", "http://host:99999/a", "http:///a.mp4"],
)
def test_addresses_that_are_none_are_errors_of_that_video(address):
    with pytest.raises(VideoDecodeError, match="^http:/") as caught:
        VideoReader(address)
    assert "secret" not in str(caught.value) and "a:b" not in str(caught.value)


def test_a_password_is_sent_to_the_named_server_only(content):
    with _serve({"/a.mp4": content}) as (inner, there), _serve({"/a.mp4": _to(f"{inner}/a.mp4")}) as (outer, here):
        address = outer.replace("//", "//me:a%3Ab@")
        assert VideoReader(f"{address}/a.mp4", allow_private=True).num_frames == 12
        assert here[0][1]["Authorization"] == "Basic bWU6YTpi"
        assert "Authorization" not in there[0][1]


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("INTERNVIDEO_DOWNLOAD_DEADLINE", "7.5")
    monkeypatch.setenv("INTERNVIDEO_DOWNLOAD_ALLOW_PLAYLISTS", "1")
    assert DownloadSettings.default() == DownloadSettings(deadline=7.5, allow_playlists=True)
    monkeypatch.setenv("INTERNVIDEO_DOWNLOAD_MAX_BYTES", "many")
    with pytest.raises(ValueError, match="INTERNVIDEO_DOWNLOAD_MAX_BYTES='many': expected a number"):
        DownloadSettings.default()
    with pytest.raises(ValueError, match="expected seconds above 0"):
        DownloadSettings(timeout=0)
    with pytest.raises(ValueError, match="expected at least 1"):
        DownloadSettings(max_bytes=0)


def test_a_stream_is_opened_with_the_same_rules(content):
    with _serve({"/a.tar": content}) as (inner, _), _serve({"/a.tar": _to(f"{inner}/a.tar")}) as (outer, _):
        with pytest.raises(VideoDecodeError, match="which is refused"), open_address(f"{outer}/a.tar"):
            pass
        with open_address(f"{inner}/a.tar") as response:
            assert response.read() == content[2]


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> tuple[bytes, np.ndarray]:
    path = write_video(tmp_path_factory.mktemp("stream") / "a.ts", 30, bframes=0)
    return path.read_bytes(), decode_in_order(path)


def _media(*lines: str) -> tuple:
    return 200, {}, "\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:9", *lines, "#EXT-X-ENDLIST", ""]).encode()


def test_a_playlist_is_one_video_where_playlists_are_allowed(stream):
    content, frames = stream
    cut = len(content) // 188 // 2 * 188
    answers = {
        "/master.m3u8": (200, {}, b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nmissing.m3u8\n"
                         b"#EXT-X-STREAM-INF:BANDWIDTH=9,CODECS=\"a,b\"\nsub/media.m3u8\n"),
        "/sub/media.m3u8": _media("#EXTINF:1,", "1.ts", "#EXTINF:1,", "/2.ts"),
        "/sub/1.ts": (200, {}, content[:cut]),
        "/2.ts": (200, {}, content[cut:]),
        "/ranges.m3u8": _media(
            f"#EXT-X-BYTERANGE:{cut}@0", "all.ts", f"#EXT-X-BYTERANGE:{len(content) - cut}", "all.ts"
        ),
        "/all.ts": (200, {}, content),
    }  # fmt: skip
    with _serve(answers) as (server, asked):
        for name in ("master.m3u8", "ranges.m3u8"):
            with VideoReader(f"{server}/{name}", allow_playlists=True) as reader:
                np.testing.assert_array_equal(reader.read(range(30)), frames)
            with pytest.raises(VideoDecodeError, match="it is a playlist"):
                VideoReader(f"{server}/{name}")
        assert "/missing.m3u8" not in dict(asked)


def test_a_playlist_of_fragments_is_read(tmp_path):
    path = write_video(tmp_path / "a.mp4", 30, container_options={"movflags": "frag_keyframe+empty_moov"})
    content = path.read_bytes()
    cuts = [content.index(b"moof") - 4, content.rindex(b"moof") - 4]
    answers = {
        "/a.m3u8": _media('#EXT-X-MAP:URI="head.mp4"', "#EXTINF:1,", "1.m4s", "#EXTINF:1,", "2.m4s"),
        "/head.mp4": (200, {}, content[: cuts[0]]),
        "/1.m4s": (200, {}, content[cuts[0] : cuts[1]]),
        "/2.m4s": (200, {}, content[cuts[1] :]),
    }
    with _serve(answers) as (server, _), VideoReader(f"{server}/a.m3u8", allow_playlists=True) as reader:
        np.testing.assert_array_equal(reader.read(range(30)), decode_in_order(path))


def test_a_playlist_leads_nowhere_but_to_public_addresses(stream, tmp_path):
    (tmp_path / "private.ts").write_bytes(stream[0])
    with _serve({"/1.ts": (200, {}, stream[0])}) as (inner, asked):
        for target, cause in (
            (str(tmp_path / "private.ts"), "answered 404"),
            (f"file://{tmp_path}/private.ts", "'file' addresses are not supported"),
            ("data:text/plain,hello", "'data' addresses are not supported"),
            (f"concat:{tmp_path}/private.ts", "addresses are not supported"),
            (f"{inner}/1.ts", "it leads to 127.0.0.1"),
        ):
            with _serve({"/a.m3u8": _media("#EXTINF:1,", target)}) as (outer, _):
                with pytest.raises(VideoDecodeError, match=cause):
                    VideoReader(f"{outer}/a.m3u8", allow_playlists=True)
        assert not asked


def test_the_pieces_of_a_playlist_share_one_limit(stream):
    answers = {"/a.m3u8": _media(*["#EXTINF:1,", "1.ts"] * 3), "/1.ts": (200, {}, stream[0])}
    with _serve(answers) as (server, asked):
        with pytest.raises(VideoDecodeError, match="larger than"):
            VideoReader(f"{server}/a.m3u8", allow_playlists=True, max_bytes=2 * len(stream[0]))
        assert [path for path, _ in asked].count("/1.ts") == 2
