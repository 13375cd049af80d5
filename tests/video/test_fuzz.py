"""Damaged files: no flagged frame is returned, every path gives the same, nothing but `VideoDecodeError` is raised."""

import hashlib
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from video.clips import write_video
from video.fuzz import mutants

from internvideo_hf.video import VideoDecodeError, VideoReader
from internvideo_hf.video.reader import available_backends

_SECONDS = 60  # for one file, on a machine with other work
CLIPS = {
    "a.mp4": {"gop": 12, "bframes": 3},
    "b.mp4": {"codec": "libx265", "gop": 12},
    "c.webm": {"codec": "libvpx-vp9", "gop": 12, "options": {"cpu-used": "8", "deadline": "realtime"}},
    "d.avi": {"codec": "mpeg4", "gop": 12},
    "e.ts": {"gop": 12},
    "f.mkv": {"gop": 12, "options": {"x264-params": "open-gop=1:scenecut=0"}},
    "g.mp4": {"gop": 12, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "h.mpg": {"codec": "mpeg2video", "gop": 12},
    "i.avi": {"gop": 12},
}


def key(frame: np.ndarray) -> str:
    return hashlib.md5(np.ascontiguousarray(frame).tobytes()).hexdigest()


def frame_or_none(read: Callable[[], np.ndarray]) -> np.ndarray | None:
    try:
        return read()
    except VideoDecodeError:
        return None


def only_flagged(path: Path) -> set[str]:
    """Return the frames that FFmpeg flags and never shows unflagged."""
    flagged, whole = set(), set()
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for packet in container.demux(stream):
                try:
                    frames = stream.decode(packet) if packet.size or packet.dts is None else []
                except av.FFmpegError:
                    continue
                for frame in frames:
                    image = key(frame.to_ndarray(format="rgb24", interpolation="BICUBIC", threads=1))
                    (flagged if frame.is_corrupt else whole).add(image)
    except (av.FFmpegError, IndexError, ValueError):
        pass
    return flagged - whole


def complaints(path: Path) -> list[str]:
    """Return what is wrong with the reading of a damaged file."""
    try:
        reader = VideoReader(path, backend="pyav")
    except VideoDecodeError:
        return []
    found, flagged = [], only_flagged(path)
    with reader:
        n = reader.num_frames
        alone = {i: frame_or_none(lambda i=i: reader.read([i])[0]) for i in np.random.default_rng(0).permutation(n)}
        streamed: list[np.ndarray] = []
        try:
            streamed.extend(block[0] for block in reader.blocks(1))
        except VideoDecodeError:
            if alone[len(streamed)] is not None:
                found.append(f"blocks stop at frame {len(streamed)}, which read returns")
    found += [f"frame {i} of blocks is not that of read" for i, f in enumerate(streamed) if not alike(f, alone[i], 0)]
    found += [f"frame {i} is flagged" for i, frame in alone.items() if frame is not None and key(frame) in flagged]
    with VideoReader(path, backend="pyav") as reader:
        together = frame_or_none(lambda: reader.read(range(n)))
    if together is not None and not all(alike(together[i], alone[i], 0) for i in range(n)):
        found.append("reading all at once gives other frames")
    for backend in set(available_backends()) - {"pyav"}:
        try:
            with VideoReader(path, backend=backend) as reader:
                others = {i: frame_or_none(lambda i=i: reader.read([i])[0]) for i in alone}
        except VideoDecodeError:
            continue
        # Other releases of FFmpeg conceal, and round, in another way.
        wrong = [i for i, frame in others.items() if frame is not None and not alike(frame, alone[i], 4)]
        found += [f"frame {i} of {backend} is not that of PyAV" for i in wrong]
    return found


def alike(frame: np.ndarray, expected: np.ndarray | None, levels: int) -> bool:
    return expected is not None and np.abs(frame.astype(int) - expected).max() <= levels


def _report(path: Path, sender) -> None:
    try:
        for complaint in complaints(path):
            sender.send(complaint)
    except BaseException as error:
        sender.send(f"raised {error!r}")
    sender.send(None)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CLIPS)
def test_damaged_files_give_the_same_frames_on_every_path_or_errors(name, tmp_path):
    clip = write_video(tmp_path / name, 30, size=(96, 128), **CLIPS[name])
    context, bad = multiprocessing.get_context("fork"), {}
    for kind, content in mutants(clip.read_bytes(), clip.suffix[1:], seed=7):
        path = tmp_path / f"{clip.stem}_{kind}{clip.suffix}"
        path.write_bytes(content)
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_report, args=(path, sender))
        child.start()
        sender.close()
        found = []
        try:
            while receiver.poll(_SECONDS) and (line := receiver.recv()) is not None:
                found.append(line)
            child.join(_SECONDS)
        except EOFError:
            found.append("the process died")
        if child.is_alive():
            child.kill()
            found.append("it hangs")
        if found:
            bad[kind] = found
    assert not bad


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_three_thousand_opens_leave_memory_files_and_threads_as_they_were(tmp_path):
    paths = [write_video(tmp_path / name, 12, **CLIPS[name]) for name in ("a.mp4", "d.avi", "e.ts", "h.mpg")]
    damaged = tmp_path / "damaged.mp4"
    content = bytearray(write_video(tmp_path / "whole.mp4", 30).read_bytes())
    content[len(content) // 2 :][:200] = bytes(200)
    damaged.write_bytes(content)
    (tmp_path / "none.mp4").write_bytes(content[: len(content) // 3])
    paths += [damaged, tmp_path / "none.mp4"]
    process = psutil.Process()

    def use(times: int) -> tuple[int, int, int]:
        for number in range(times):
            path = paths[number % len(paths)]
            for backend in ("pyav", "decord") if number % 10 == 0 else ("pyav",):
                try:
                    with VideoReader(path, backend=backend) as reader:
                        reader.read([1, reader.num_frames - 1])
                        next(reader.blocks(4))
                except (VideoDecodeError, ImportError):
                    pass
        return process.memory_info().rss, process.num_fds(), process.num_threads()

    use(300)
    before, after = use(60), use(3000)
    assert after[0] - before[0] < 16 << 20
    assert after[1:] == before[1:]
