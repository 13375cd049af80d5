"""Frames around key frames: of whole movies, of files of one second, and of clips; read alone and in one pass."""

import shutil

import numpy as np
import pytest
import torch
from tasks.temporal_localization.heads import write_holed
from video.clips import write_video

from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.action_detection.videos import Movie, SecondFiles, VideoFolder
from internvideo_hf.video import VideoReader
from internvideo_hf.video.errors import VideoDecodeError

RATE = 30


def pixels_of(frame: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frame).movedim(-1, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a movie of 4 s, the same as files of one second, and a clip of Kinetics."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "movie.mp4", 4 * RATE)
    (folder / "clips/cut").mkdir(parents=True)
    write_video(folder / "clips/cut/0900.mp4", RATE)
    for second in (901, 902, 903):  # encoded once: x264 is not the same twice
        shutil.copy(folder / "clips/cut/0900.mp4", folder / f"clips/cut/0{second}.mp4")
    write_video(folder / "abc_d-e_000012_000014.mkv", 2 * RATE)
    (folder / "broken.mp4").write_bytes(b"nothing")
    write_holed(folder / "holed.mkv", 120, 26, 27)
    return folder


def test_videos_are_found_by_their_ids(folder):
    videos = VideoFolder(folder, begin=900)
    assert isinstance(videos.find("movie", 901), Movie) and videos.find("movie", 901).begin == 900
    assert isinstance(videos.find("cut", 901), SecondFiles)
    assert videos.find("abc_d-e", 13).begin == 12 and videos.find("abc_d-e", 15) is None
    assert videos.find("gone", 901) is None


def test_two_files_of_one_id_are_not_taken_for_each_other(tmp_path):
    for place in ("train", "val"):
        (tmp_path / place / "cut").mkdir(parents=True)
        (tmp_path / place / "talk.mp4").touch()
        (tmp_path / place / "cut" / f"0{place == 'val':d}.mp4").touch()
    videos = VideoFolder(tmp_path)
    with pytest.raises(ManifestError, match="talk.mp4: .*talk.mp4 has the same id, talk. Rename or move"):
        videos.find("talk", 1)
    assert sorted(videos.find("cut", 1).files) == [0, 1]


def test_a_movie_shows_every_fourth_frame_around_the_key_frame(folder):
    with VideoReader(folder / "movie.mp4") as reader:
        everything = reader.read(range(4 * RATE))
    movie = Movie(folder / "movie.mp4", begin=900)
    np.testing.assert_array_equal(movie.read(902), everything[29:90:4])  # 60 - 32 + 1 to 60 + 29
    np.testing.assert_array_equal(movie.read(900, 4, 2), everything[[0, 0, 0, 2]])
    np.testing.assert_array_equal(movie.read(903.5, 4, 20), everything[[74, 94, 114, 119]])


def test_files_of_one_second_show_the_same_as_their_movie(folder):
    cut = VideoFolder(folder).find("cut", 902)
    with VideoReader(folder / "clips/cut/0900.mp4") as reader:
        second = reader.read(range(RATE))
    everything = np.concatenate([second] * 4)
    np.testing.assert_array_equal(cut.read(902), everything[29:90:4])
    np.testing.assert_array_equal(cut.read(900, 4, 2), everything[[0, 0, 0, 2]])
    np.testing.assert_array_equal(cut.read(903, 4, 20), everything[[59, 79, 99, 119]])


@pytest.mark.parametrize("video", ["movie", "cut"])
def test_one_pass_gives_what_each_key_frame_gives_alone(folder, video):
    source = VideoFolder(folder, begin=900).find(video, 901)
    clips = list(source.stream([900, 901, 902, 903], pixels_of))
    for time, clip in zip([900, 901, 902, 903], clips, strict=True):
        np.testing.assert_array_equal(clip.movedim(1, -1).numpy(), source.read(time))


def test_one_pass_decodes_each_frame_once(folder, monkeypatch):
    decoded = []

    class Counting(VideoReader):
        def close(self):
            decoded.append(self.frames_decoded)
            super().close()

    monkeypatch.setattr("internvideo_hf.tasks.action_detection.videos.VideoReader", Counting)
    list(Movie(folder / "movie.mp4").stream([0, 1, 2, 3], pixels_of))
    assert len(decoded) == 1 and decoded[0] <= 4 * RATE
    decoded.clear()
    list(VideoFolder(folder).find("cut", 900).stream([900, 901, 902, 903], pixels_of))
    assert len(decoded) == 4 and sum(decoded) <= 4 * RATE


def test_key_frames_outside_the_file_are_failures(folder):
    movie = Movie(folder / "movie.mp4", begin=900)
    found = list(movie.stream([899, 901, 904], pixels_of))
    assert [isinstance(entry, VideoDecodeError) for entry in found] == [True, False, True]
    assert "it shows 900 to 904 s, and a key frame is at 904 s. Check data.boxes.begin" in str(found[2])
    with pytest.raises(VideoDecodeError, match="at 899 s"):
        movie.read(899)
    with pytest.raises(VideoDecodeError, match="no file of second 901.5"):
        VideoFolder(folder).find("cut", 901.5).read(901.5)


def test_damage_is_the_failure_of_the_key_frames_around_it(folder):
    found = list(Movie(folder / "broken.mp4").stream([0, 1], pixels_of))
    assert len(found) == 2 and all(isinstance(entry, VideoDecodeError) for entry in found)
    holed = list(Movie(folder / "holed.mkv").stream([0, 1, 2, 3], pixels_of, 4, 2))
    assert [isinstance(entry, VideoDecodeError) for entry in holed] == [False, True, False, False]
    files = {900: folder / "clips/cut/0900.mp4", 901: folder / "broken.mp4", 902: folder / "clips/cut/0902.mp4"}
    found = list(SecondFiles(files).stream([900, 901, 902], pixels_of, 2, 2))
    assert [isinstance(entry, VideoDecodeError) for entry in found] == [False, True, True]
