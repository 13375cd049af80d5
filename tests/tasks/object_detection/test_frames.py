"""Pixels of annotated frames: images by either name, frames of exported clips and of whole videos."""

import numpy as np
import pytest
from PIL import Image
from video.clips import moving_picture, write_video

from internvideo_hf.tasks.object_detection.annotations import Frame
from internvideo_hf.tasks.object_detection.frames import FrameFolder
from internvideo_hf.video import VideoReader
from internvideo_hf.video.errors import VideoDecodeError

FRAME = Frame(1, "v", "pre_frame", 12, "c", "id", 3)


@pytest.mark.parametrize(
    "name",
    ["v/id/12.png", "v/c/12.png", "v/12.png", "pre_pnr_post_frames/v/id/12.png", "pre_pnr_post_frames/v/12.png"],
)
def test_an_image_comes_first(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True)
    pixels = moving_picture(1, 20, 30)[0]
    Image.fromarray(pixels).save(tmp_path / name)
    write_video(tmp_path / "c.mp4", 5)
    np.testing.assert_array_equal(FrameFolder(tmp_path).read(FRAME), pixels)


def test_frames_are_counted_in_the_file_that_is_there(tmp_path):
    (tmp_path / "full_scale").mkdir()
    write_video(tmp_path / "full_scale/v.mp4", 15)
    with VideoReader(tmp_path / "full_scale/v.mp4") as reader:
        whole = reader.read([12, 3])
    source = FrameFolder(tmp_path)
    np.testing.assert_array_equal(source.read(FRAME), whole[0])
    (tmp_path / "clips").mkdir()
    (tmp_path / "full_scale/v.mp4").rename(tmp_path / "clips/c.mp4")
    np.testing.assert_array_equal(source.read(FRAME), whole[1])
    source.close()
    with pytest.raises(VideoDecodeError, match=r"frame 12: frame 40 of .*c\.mp4 is asked for, which has 15"):
        source.read(Frame(1, "v", "pre_frame", 12, "c", "id", 40))
    with pytest.raises(VideoDecodeError, match=r"none of full_scale/v\.mp4"):  # the place in the clip is unknown
        source.read(Frame(1, "v", "pre_frame", 12, "c", "id"))


def test_files_of_coco_are_below_the_folder(tmp_path):
    Image.fromarray(moving_picture(1, 20, 30)[0]).save(tmp_path / "a.png")
    source = FrameFolder(tmp_path / "inner")
    assert FrameFolder(tmp_path).read(Frame(1, "a.png", file="a.png")).shape == (20, 30, 3)
    for name in ("../a.png", str(tmp_path / "a.png")):
        with pytest.raises(VideoDecodeError, match="outside the folder of frames"):
            source.read(Frame(1, name, file=name))
    with pytest.raises(VideoDecodeError, match="there is no"):
        source.read(Frame(1, "a.png", file="a.png"))
    with pytest.raises(VideoDecodeError, match="id of Ego4D"):
        source.read(Frame(1, "../v", "pre_frame", 12))
