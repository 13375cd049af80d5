"""Opening of containers: what refers to other files is refused, and nothing else is opened on the way."""

import ast
import os
import shutil
import sys
import threading
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from servers import serve_folder
from video.clips import decode_in_order, write_sound, write_video

import internvideo_hf
from internvideo_hf.video import VideoReader
from internvideo_hf.video.containers import check_for_other_decoders, open_container
from internvideo_hf.video.errors import VideoDecodeError

_HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
_LISTS = {
    "relative.m3u8": _HLS.format("folder/private.ts"),
    "absolute.m3u8": _HLS.format("{root}/folder/private.ts"),
    "bom.m3u8": "\ufeff" + _HLS.format("folder/private.ts"),
    "data.m3u8": _HLS.format("data:text/plain,hello"),
    "http.m3u8": _HLS.format("http://127.0.0.1:9/a.ts"),
    "named.mp4": "ffconcat version 1.0\nfile folder/private.ts\n",
    "list.ffconcat": "ffconcat version 1.0\nfile folder/private.ts\n",
    "streams.mpd": '<?xml version="1.0"?>\n<MPD profiles="urn:mpeg:dash:profile:isoff-live:2011"><Period/></MPD>',
    "call.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 26\n",
    "subtitles.idx": "# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n",
}


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "folder").mkdir()
    write_video(tmp_path / "folder" / "private.ts", 12)
    for name, content in _LISTS.items():
        (tmp_path / name).write_text(content.replace("{root}", str(tmp_path)))
    return tmp_path


@pytest.fixture
def noticed(root):
    """Turn the files that are referred to into a pipe, and return the list of those that were opened."""
    private, opened = root / "folder" / "private.ts", []
    private.unlink()
    os.mkfifo(private)
    done = threading.Event()

    def wait() -> None:
        while not done.is_set():
            try:
                # Without waiting a pipe can be opened for writing only while somebody reads it.
                os.close(os.open(private, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:
                done.wait(0.005)
            else:
                opened.append(private)
                return

    watcher = threading.Thread(target=wait)
    watcher.start()
    yield opened
    done.set()
    watcher.join()


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("of", [Path, Path.read_bytes])
def test_nothing_that_a_list_names_is_opened(root, noticed, of):
    for name in _LISTS:
        with pytest.raises(VideoDecodeError):
            VideoReader(of(root / name))
    assert not noticed


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
@pytest.mark.timeout(20)
def test_the_pipe_would_notice(root, noticed):
    with pytest.raises(av.FFmpegError):
        av.open(str(root / "named.mp4"), container_options={"safe": "0"}).close()
    assert noticed


@pytest.mark.parametrize("name", _LISTS)
@pytest.mark.parametrize("of", [Path, Path.read_bytes])
def test_lists_of_files_are_refused(root, backend, name, of):
    with pytest.raises(VideoDecodeError) as caught:
        VideoReader(of(root / name), backend=backend)
    if Path(name).suffix in (".m3u8", ".mp4", ".ffconcat", ".mpd"):
        assert "it is a playlist, which refers to other files" in str(caught.value)


def test_a_list_from_an_address_is_refused(root, backend):
    with serve_folder(root) as server:
        for name in ("absolute.m3u8", "named.mp4"):
            with pytest.raises(VideoDecodeError, match="it is a playlist"):
                VideoReader(f"{server}/{name}", backend=backend)


def test_a_pattern_of_names_is_refused(tmp_path, backend):
    for i in range(3):
        Image.new("RGB", (16, 16)).save(tmp_path / f"a{i:03d}.tif")
    shutil.copy(tmp_path / "a000.tif", tmp_path / "a%03d.tif")
    with pytest.raises(VideoDecodeError, match="its name is a pattern.*Rename it"):
        VideoReader(tmp_path / "a%03d.tif", backend=backend)


def test_a_video_whose_name_looks_like_a_pattern_is_read(tmp_path, backend):
    path = write_video(tmp_path / "100%d%03d.mp4", 12)
    with VideoReader(path, backend=backend) as reader:
        np.testing.assert_array_equal(reader.read(range(12)), decode_in_order(path.rename(tmp_path / "a.mp4")))


def test_data_of_another_file_are_not_followed(tmp_path, backend):
    """QuickTime files may keep their frames in another file (`dref` with an alias)."""
    write_video(tmp_path / "other.mov", 12)
    content = bytearray((tmp_path / "other.mov").read_bytes())
    place = content.index(b"dref") - 4
    old = int.from_bytes(content[place : place + 4], "big")
    name = b"other.mov"
    # An alias of the Macintosh: volume, name, levels up and down, and the path as a record of type 2.
    alias = bytes(10) + b"\x04" + b"disk".ljust(27, b"\0") + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0")
    alias += bytes(16) + b"\0\1\0\1" + bytes(16)
    alias += b"\0\2" + len(name).to_bytes(2, "big") + name + b"\0" + b"\xff\xff\0\0"
    dref = bytes(4) + (1).to_bytes(4, "big") + (12 + len(alias)).to_bytes(4, "big") + b"alis" + bytes(4) + alias
    dref = (8 + len(dref)).to_bytes(4, "big") + b"dref" + dref
    grown = len(dref) - old
    content[place : place + old] = dref
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        at = content.rindex(box, 0, place) - 4
        content[at : at + 4] = (int.from_bytes(content[at : at + 4], "big") + grown).to_bytes(4, "big")
    mdat = content.index(b"mdat")
    assert mdat < place, "the frames stand in front of the table, so their offsets hold"
    size = int.from_bytes(content[mdat - 4 : mdat], "big")
    content[mdat + 4 : mdat - 4 + size] = bytes(size - 8)  # only the other file has the frames
    (tmp_path / "refers.mov").write_bytes(content)
    with av.open(str(tmp_path / "refers.mov"), container_options={"enable_drefs": "1"}) as container:
        assert len(list(container.decode(video=0))) == 12, "FFmpeg would follow it if it was asked to"
    with pytest.raises(VideoDecodeError):
        VideoReader(tmp_path / "refers.mov", backend=backend).read([0])


def test_other_decoders_are_given_only_what_every_ffmpeg_takes_for_a_container(tmp_path):
    video = write_video(tmp_path / "a.mp4", 12)
    check_for_other_decoders(video, "a.mp4", "decord")
    # Newer FFmpegs take the first for MPEG-TS, older ones for the playlist that it also is.
    stream = write_video(tmp_path / "a.ts", 12).read_bytes()
    for content in (_LISTS["relative.m3u8"].encode() + stream, stream, b'    ftyp<MPD profiles="dash:profile:a">'):
        with pytest.raises(VideoDecodeError):
            check_for_other_decoders(content, "<bytes>", "decord")


def test_broken_files_and_other_files_say_what_they_are(tmp_path):
    (tmp_path / "a.txt").write_text("words " * 100)
    whole = write_video(tmp_path / "whole.mp4", 12).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VideoDecodeError, match=r"cut\.mp4: FFmpeg cannot open it .*`moov`"):
        open_container(tmp_path / "cut.mp4")
    with pytest.raises(VideoDecodeError, match=r"<9 bytes>: FFmpeg cannot open it"):
        open_container(b"no video.")
    with open_container(write_sound(tmp_path / "a.m4a"), "a label") as container:
        assert not container.streams.video


def test_nothing_else_opens_a_container_for_reading():
    package = Path(internvideo_hf.__file__).parent
    for file in package.rglob("*.py"):
        if file.name == "containers.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("av.open", "av.container.open"):
                mode = node.args[1] if len(node.args) > 1 else None
                assert isinstance(mode, ast.Constant) and mode.value == "w", f"{file}:{node.lineno} opens a container"
