"""Tone mapping: the numbers of FFmpeg's zscale and tonemap filters, and files of every backend."""

import numpy as np
import pytest
from video.clips import write_video

from internvideo_hf.video import ReadSettings, VideoDecodeError, VideoReader
from internvideo_hf.video.hdr import HLG, PQ, tone_map

# Signal in 0..1 and what FFmpeg 5.1 makes of it by the filters that the module names.
FFMPEG = {
    PQ: {
        (0.581, 0.581, 0.581): (244, 244, 244),
        (0.428, 0.428, 0.428): (128, 128, 128),
        (0.479, 0.305, 0.303): (200, 30, 60),
        (0.42, 0.516, 0.39): (20, 200, 90),
        (0.9, 0.9, 0.9): (255, 255, 255),
        (0.7, 0.8, 0.4): (74, 255, 0),
    },
    HLG: {
        (0.75, 0.75, 0.75): (244, 244, 244),
        (0.47, 0.47, 0.47): (128, 128, 128),
        (0.577, 0.261, 0.258): (200, 30, 60),
        (0.455, 0.643, 0.396): (20, 200, 90),
        (0.9, 0.9, 0.9): (254, 254, 254),
        (0.7, 0.8, 0.4): (143, 250, 23),
    },
}


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_colors_are_those_of_ffmpeg(transfer):
    signals = np.rint(np.array(list(FFMPEG[transfer])) * 65535).astype(np.uint16)
    mapped = tone_map(signals[None], transfer, 9)[0].astype(int)
    # The signals are given to three places, which makes up to two levels.
    assert np.abs(mapped - np.array(list(FFMPEG[transfer].values()))).max() <= 2


def test_a_page_of_a_hundred_candela_by_hand():
    # PQ of 100 cd/m2 is 0.5081 (SMPTE ST 2084); 100 / 203 in sRGB: 1.055 * 0.4926 ** (1 / 2.4) - 0.055 = 0.730.
    signal = np.full((1, 1, 3), round(0.5081 * 65535), np.uint16)
    assert tone_map(signal, PQ, 1)[0, 0].tolist() == [186, 186, 186]


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_is_mapped_or_refused_and_never_taken_for_ordinary_video(tmp_path, transfer, backend):
    write_video(tmp_path / "plain.mp4", 4)
    path = write_video(tmp_path / "hdr.mp4", 4, options={"x264-params": f"transfer={transfer}"})
    with VideoReader(tmp_path / "plain.mp4", backend="pyav") as reader:
        plain = reader.read(range(4))
    with VideoReader(path, backend=backend, settings=ReadSettings(hdr="ignore")) as reader:
        np.testing.assert_array_equal(reader.read(range(4)), plain)
    with VideoReader(path) as reader:
        mapped = reader.read(range(4))
        np.testing.assert_array_equal(np.concatenate(list(reader.blocks(4))), mapped)
    assert np.abs(mapped.astype(int) - plain).mean() > 20
    if backend != "pyav":
        with pytest.raises(VideoDecodeError, match="HDR.*--hdr ignore"):
            VideoReader(path, backend=backend)
