"""Cuts: exact ones hold the frames of their times, those at keyframes the very packets."""

import av
import numpy as np
import pytest

from internvideo_hf.curation.cutting import Clips, cut_at_keyframes, cut_exact
from internvideo_hf.data.transcoding import TranscodeSettings
from internvideo_hf.video import VideoReader
from internvideo_hf.video.errors import VideoDecodeError


def numbers(path):
    """Return the numbers that are drawn into frames, modulo 48."""
    with VideoReader(path) as reader:
        frames = reader.read(range(reader.num_frames)).astype(int)
    return (frames[:, 12, 8:56].min(axis=-1) > 200).sum(axis=-1).tolist()


def test_exact_cuts_begin_and_end_at_their_frames(shots, tmp_path):
    with VideoReader(shots, backend="pyav") as reader:
        times = cut_exact(reader, tmp_path / "a.mp4", 1.0004, 2.5, TranscodeSettings(16, quality=10))
        assert times == pytest.approx((1.0, 2.5))
        assert cut_exact(reader, tmp_path / "b.mp4", 5.55, 99, TranscodeSettings())[1] == pytest.approx(6)
        with pytest.raises(VideoDecodeError, match=r"no frame lies between 7.000 s and 8.000 s, and it ends at 6.000"):
            cut_exact(reader, tmp_path / "c.mp4", 7, 8, TranscodeSettings())
    assert np.allclose(numbers(tmp_path / "b.mp4"), [n % 48 for n in range(56, 60)], atol=1)
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert reader.num_frames == 15 and min(reader.height, reader.width) == 16
    assert not (tmp_path / "c.mp4").exists()


def test_keyframe_cuts_copy_packets_from_the_keyframe_before(shots, tmp_path):
    times = cut_at_keyframes(shots, tmp_path / "a.mp4", 1.0, 2.5)
    assert times[0] == pytest.approx(0.8) and 2.5 <= times[1] <= 3.0
    with av.open(str(shots)) as whole, av.open(str(tmp_path / "a.mp4")) as part:
        packets = [bytes(packet) for packet in whole.demux(video=0) if packet.size]
        copied = [bytes(packet) for packet in part.demux(video=0) if packet.size]
    assert copied == packets[8 : 8 + len(copied)] and len(copied) >= 17
    assert np.allclose(numbers(tmp_path / "a.mp4")[:17], range(8, 25), atol=1)
    with pytest.raises(VideoDecodeError, match="no frame lies between"):
        cut_at_keyframes(shots, tmp_path / "b.mp4", 70, 80)
    (tmp_path / "bad.mp4").write_text("no video")
    with pytest.raises(VideoDecodeError):
        cut_at_keyframes(tmp_path / "bad.mp4", tmp_path / "b.mp4", 0, 1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mp4", "bad.mp4"]


@pytest.mark.parametrize("cut", ["exact", "keyframe"])
def test_the_stage_gives_a_row_or_a_failure_for_each_clip(cut, shots, tmp_path):
    segments = [{"start": start, "end": start + 1, "caption": "c", "about": {"x": 1}} for start in (1.0, 9.0, 2.0)]
    row = {"source": "7q_1Lg3YqEE", "video": str(shots), "url": None, "segments": segments}
    stage = Clips(tmp_path, cut)
    first, failed, last, gone = stage.run([row, {**row, "video": str(tmp_path / "gone.mp4")}])
    assert first["clip"] == "clips/7q/7q_1Lg3YqEE_1.000_2.000.mp4" and stage.files(first)[0].is_file()
    assert (last["start"], first["caption"], first["about"]) == (
        pytest.approx(2.0 if cut == "exact" else 1.6),
        "c",
        {"x": 1},
    )
    assert "no frame lies" in failed.cause and failed.source.endswith("_9.000_10.000.mp4")
    assert gone.source == str(tmp_path / "gone.mp4")
    with pytest.raises(ValueError, match="cut: got 'fast'"):
        Clips(tmp_path, "fast")
