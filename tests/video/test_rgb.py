"""Pictures as FFmpeg's own tool shows them: all display matrices, and interlaced videos, on every backend."""

import struct

import numpy as np
import pytest
from video.clips import moving_picture, write_video

from internvideo_hf.data.transcoding import TranscodeSettings, transcode_video
from internvideo_hf.video import VideoDecodeError, VideoReader
from internvideo_hf.video.rgb import Orientation

# Display matrices (a, b, c, d): the stored pixel (x, y) is shown at (a x + c y, b x + d y), but for a shift. The
# pictures follow by hand from that; FFmpeg's autorotation gives the same.
MATRICES = {
    (1, 0, 0, 1): lambda image: image,
    (-1, 0, 0, 1): lambda image: image[:, ::-1],
    (1, 0, 0, -1): lambda image: image[::-1],
    (-1, 0, 0, -1): lambda image: image[::-1, ::-1],
    (0, 1, 1, 0): lambda image: image.transpose(1, 0, 2),
    (0, 1, -1, 0): lambda image: np.rot90(image, -1),
    (0, -1, 1, 0): lambda image: np.rot90(image, 1),
    (0, -1, -1, 0): lambda image: image[::-1, ::-1].transpose(1, 0, 2),
}


def set_matrix(path, matrix) -> None:
    a, b, c, d = (0x10000 * value for value in matrix)
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(content)


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_every_display_matrix_is_applied_or_refused(tmp_path, matrix, backend):
    # Not 64 pixels wide: decord fails on rotated videos of a few widths.
    path = write_video(tmp_path / "a.mp4", 4, size=(80, 96))
    with VideoReader(path, backend="pyav") as reader:
        stored = reader.read(range(4))
    set_matrix(path, matrix)
    expected = np.stack([MATRICES[matrix](image) for image in stored])
    mirrors = matrix[0] * matrix[3] - matrix[1] * matrix[2] < 0
    if mirrors and backend != "pyav":
        with pytest.raises(VideoDecodeError, match='mirrors the picture.*backend="pyav"'):
            VideoReader(path, backend=backend)
    else:
        with VideoReader(path, backend=backend) as reader:
            np.testing.assert_array_equal(reader.read(range(4)), expected)
            np.testing.assert_array_equal(np.concatenate(list(reader.blocks(3))), expected)
    with VideoReader(path) as reader:
        np.testing.assert_array_equal(reader.read(range(4)), expected)


def test_small_copies_are_upright(tmp_path):
    path = write_video(tmp_path / "a.mp4", 4, size=(80, 96))
    set_matrix(path, (0, 1, 1, 0))
    transcode_video(path, tmp_path / "b.mp4", TranscodeSettings(short_side=80, quality=1))
    with VideoReader(path) as reader, VideoReader(tmp_path / "b.mp4") as copy:
        difference = np.abs(reader.read(range(4)).astype(int) - copy.read(range(4)))
    assert difference.mean() < 3


def test_orientations_are_rotations_or_mirror_images():
    steps = [Orientation(*bits) for bits in np.ndindex(2, 2, 2)]
    turned = [step.apply(np.arange(12).reshape(2, 2, 3))[..., 0].tolist() for step in steps]
    rotations = [np.rot90([[0, 3], [6, 9]], turns).tolist() for turns in range(4)]
    assert [step.is_rotation for step in steps] == [picture in rotations for picture in turned]


def test_interlaced_videos_are_scaled_as_one_picture_by_every_backend(tmp_path, backend):
    # Without loss, so that both files hold the same pictures, and only the flag differs.
    lossless = {"x264-params": "qp=0", "preset": "ultrafast"}
    fields = {"x264-params": "qp=0:tff=1", "preset": "ultrafast", "flags": "+ildct+ilme"}
    frames = []
    for name, options in (("a.mp4", lossless), ("b.mp4", fields)):
        with VideoReader(write_video(tmp_path / name, 4, options=options), backend=backend) as reader:
            frames.append(reader.read(range(4)))
    assert np.abs(frames[0].astype(int) - moving_picture(4)).mean() < 12
    np.testing.assert_array_equal(*frames)
