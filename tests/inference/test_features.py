"""Sliding-window features: equal to one read per window, each frame decoded once, resumable."""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import av
import dying
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from object_stores import new_memory
from safetensors.torch import load_file, save_file
from tasks.temporal_localization.heads import write_encoder, write_holed
from transformers import AutoModel, AutoVideoProcessor
from video.clips import write_video

from internvideo_hf import FeatureExtractor, VideoDecodeError, VideoReader
from internvideo_hf.inference.features import Settings, extract_to_file
from internvideo_hf.utils.locks import LockedError, lock_file
from internvideo_hf.utils.storage import StoragePath
from internvideo_hf.utils.transfers import fetched


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (45, 24, 40, 3), dtype=np.uint8)


def make_video(path, seed: int) -> None:
    """Noise, coded without loss, so that every seed gives another file."""
    frames = np.random.default_rng(seed).integers(0, 256, (40, 24, 40, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 40, 24, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def clip(tmp_path):
    """Return a file of 40 frames."""
    (tmp_path / "videos").mkdir()
    make_video(tmp_path / "videos/clip.mp4", seed=0)
    return tmp_path / "videos/clip.mp4"


def make(folder, window=8, stride=3, batch_size=4) -> FeatureExtractor:
    return FeatureExtractor(folder, window, stride, batch_size, device="cpu")


def window_by_window(folder, frames: np.ndarray, window: int, stride: int) -> torch.Tensor:
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoVideoProcessor.from_pretrained(folder)
    rows = []
    for start in range(0, max(len(frames) - window, 0) + 1, stride):
        clip = frames[start : start + window]
        clip = np.concatenate([clip, np.repeat(clip[-1:], window - len(clip), axis=0)])
        pixels = processor(clip, do_sample_frames=False, return_tensors="pt")["pixel_values_videos"]
        with torch.no_grad():
            rows.append(model(pixels).pooler_output[0])
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("frames", "window", "stride", "batch_size"),
    [(45, 8, 3, 4), (45, 8, 8, 2), (45, 4, 11, 3), (45, 16, 1, 5), (8, 8, 4, 4), (3, 8, 4, 4), (9, 8, 4, 1)],
)
def test_rows_equal_one_read_a_window(mae_folder, video, frames, window, stride, batch_size):
    extractor = make(mae_folder, window, stride, batch_size)
    with VideoReader(video[:frames]) as reader:
        rows = torch.cat(list(extractor.rows(reader)))
        assert len(rows) == extractor.num_rows(reader)
    expected = window_by_window(mae_folder, video[:frames], window, stride)
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=1e-5)


def test_rows_may_begin_in_the_middle(mae_folder, video):
    extractor = make(mae_folder)
    with VideoReader(video) as reader:
        everything = torch.cat(list(extractor.rows(reader)))
        torch.testing.assert_close(torch.cat(list(extractor.rows(reader, 5))), everything[5:], atol=1e-5, rtol=1e-5)


def test_every_frame_is_decoded_once(mae_folder, clip):
    extractor = make(mae_folder, window=16, stride=3)
    with VideoReader(clip, backend="pyav") as reader:
        before = reader.frames_decoded
        list(extractor.rows(reader))
        assert reader.frames_decoded - before == reader.num_frames


def test_seconds_of_rows_are_those_of_their_frames(mae_folder, tmp_path):
    # Half a second at 30 frames a second, a gap of ten seconds as in recordings of screens, half a second.
    uneven = [*range(16), *range(315, 331)]
    clip = write_video(tmp_path / "screen.mp4", 32, times=uneven)
    path = tmp_path / "screen.mp4.safetensors"
    extract_to_file(make(mae_folder, window=8, stride=8), clip, path)
    expected = [[0, 8 / 30], [8 / 30, 10.5], [10.5, 10.5 + 8 / 30], [10.5 + 8 / 30, 10.5 + 16 / 30]]
    np.testing.assert_allclose(json.loads(path.with_suffix(".json").read_text())["seconds"], expected, atol=1e-3)


def test_files_tell_what_their_rows_are(mae_folder, bikes, tmp_path):
    extractor = make(mae_folder, window=16, stride=64)
    path = tmp_path / "bikes.mp4.safetensors"
    assert extract_to_file(extractor, bikes, path, as_npy=True)
    features = load_file(path)["features"]
    facts = json.loads(path.with_suffix(".json").read_text())
    assert features.shape == (4, 64) and facts["rows"] == 4
    assert (facts["fps"], facts["num_frames"], facts["window"], facts["stride"]) == (25.0, 250, 16, 64)
    assert facts["seconds"][1] == [2.56, 3.2]
    assert facts["revision"].startswith("sha256:") and facts["model"] == str(mae_folder)
    np.testing.assert_array_equal(np.load(path.with_suffix(".npy")), features.numpy())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bikes.mp4.json", "bikes.mp4.npy", "bikes.mp4.safetensors"]


@pytest.mark.parametrize("is_stored", [False, True])
def test_a_finished_file_is_not_made_again_and_other_settings_do_not_replace_it(mae_folder, clip, tmp_path, is_stored):
    folder = StoragePath(new_memory()) if is_stored else tmp_path / "out"
    path = folder / "features.safetensors"
    assert extract_to_file(make(mae_folder, 16, 8), clip, path)
    assert not extract_to_file(make(mae_folder, 16, 8), clip, path, as_npy=True)
    names = ["features.json", "features.npy", "features.safetensors"]
    assert sorted(file.name for file in folder.iterdir()) == names
    with pytest.raises(FileExistsError, match="other settings"):
        extract_to_file(make(mae_folder, 16, 4), clip, path)


@pytest.mark.parametrize("is_stored", [False, True])
def test_a_killed_run_is_taken_up_where_it_was(mae_folder, clip, tmp_path, monkeypatch, is_stored):
    monkeypatch.setattr("internvideo_hf.utils.journal.CHECKPOINT_EVERY_SECONDS", 0.0)
    extractor = make(mae_folder, window=8, stride=4, batch_size=1)
    folder = StoragePath(new_memory()) if is_stored else tmp_path
    whole, path = tmp_path / "whole.safetensors", folder / "killed.safetensors"
    extract_to_file(extractor, clip, whole)

    embed, calls = extractor._embed, []

    def embed_until_killed(clips):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return embed(clips)

    extractor._embed = embed_until_killed
    with pytest.raises(KeyboardInterrupt):
        extract_to_file(extractor, clip, path)
    assert not path.exists()
    calls.clear()
    calls.extend([1] * 10)
    assert extract_to_file(extractor, clip, path)
    assert len(calls) - 10 == 9 - 5  # five of the nine rows were on disk
    with fetched(path) as file:
        torch.testing.assert_close(load_file(file)["features"], load_file(whole)["features"], atol=1e-5, rtol=1e-5)
    assert sorted(entry.name for entry in folder.iterdir() if "killed" in entry.name) == [
        "killed.json",
        "killed.safetensors",
    ]


def test_parts_of_another_video_are_not_taken_up(mae_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("internvideo_hf.utils.journal.CHECKPOINT_EVERY_SECONDS", 0.0)
    video, path = tmp_path / "clip.mp4", tmp_path / "features.safetensors"
    make_video(video, seed=0)
    extractor = make(mae_folder, window=8, stride=8, batch_size=1)
    embed, calls = extractor._embed, []
    extractor._embed = lambda clips: (calls.append(1), embed(clips) if len(calls) < 4 else 1 / 0)[1]
    with pytest.raises(ZeroDivisionError):
        extract_to_file(extractor, video, path)
    assert list(tmp_path.glob(".*.parts/*.safetensors"))
    make_video(video, seed=1)
    extractor._embed = embed
    assert extract_to_file(extractor, video, path)
    assert extract_to_file(extractor, video, tmp_path / "alone.safetensors")
    assert torch.equal(load_file(path)["features"], load_file(tmp_path / "alone.safetensors")["features"])
    assert not list(tmp_path.glob(".*"))


def test_features_of_another_video_are_not_taken_for_done(mae_folder, tmp_path):
    video, path = tmp_path / "clip.mp4", tmp_path / "features.safetensors"
    make_video(video, seed=0)
    assert extract_to_file(make(mae_folder), video, path)
    (tmp_path / "copy").mkdir()
    shutil.copy(video, tmp_path / "copy/clip.mp4")
    assert not extract_to_file(make(mae_folder), tmp_path / "copy/clip.mp4", path)  # the same, in another place
    make_video(video, seed=1)
    with pytest.raises(FileExistsError, match=r"another video, .*clip\.mp4"):
        extract_to_file(make(mae_folder), video, path)


def test_the_model_may_be_called_by_another_path(mae_folder, clip, tmp_path, monkeypatch):
    path = tmp_path / "features.safetensors"
    assert extract_to_file(make(mae_folder, 16, 8), clip, path)
    monkeypatch.chdir(mae_folder.parent)
    assert not extract_to_file(make(f"./{mae_folder.name}", 16, 8), clip, path)


def test_a_folder_that_lacks_weights_is_refused(mae_folder, tmp_path):
    shutil.copytree(mae_folder, tmp_path / "damaged")
    weights = load_file(mae_folder / "model.safetensors")
    del weights["internvideo_mae.layers.0.mlp.fc1.bias"]
    save_file(weights, tmp_path / "damaged/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks weights: layers.0.mlp.fc1.bias"):
        make(tmp_path / "damaged")


def test_dual_encoders_give_their_video_embedding(mm_folder, video):
    extractor = make(mm_folder, window=4, stride=20)
    with VideoReader(video) as reader:
        assert torch.cat(list(extractor.rows(reader))).shape == (3, 64)


def test_a_damaged_video_raises_and_leaves_no_file(mae_folder, tmp_path):
    (tmp_path / "damaged.mp4").write_text("no video")
    with pytest.raises(VideoDecodeError, match="damaged.mp4"):
        extract_to_file(make(mae_folder), tmp_path / "damaged.mp4", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "message"), [({"window": 7}, "multiple of 2"), ({"stride": 0}, "stride"), ({"batch_size": 0}, "batch")]
)
def test_a_meaningless_number_is_refused(mae_folder, options, message):
    with pytest.raises(ValueError, match=message):
        make(mae_folder, **options)


def test_windows_that_do_not_fit_into_memory_are_refused_with_their_size(mae_folder):
    # One batch, the same frames stacked, and a block that was just decoded; 4 bytes a number.
    extractor = make(mae_folder)
    side = extractor.processor.crop_size["height"]
    gigabytes = (100_000 + 3 * 3 + 32 + 4 * 100_000) * 3 * side * side * 4 / 1e9
    with pytest.raises(ValueError, match=f"holds {gigabytes:.1f} GB.*shorter window.*--max-memory"):
        FeatureExtractor(mae_folder, 100_000, 3, 4, "cpu", max_memory=gigabytes - 0.1)
    FeatureExtractor(mae_folder, 100_000, 3, 4, "cpu", max_memory=gigabytes + 0.1)


def test_a_change_in_the_middle_of_a_large_file_is_noticed(mae_folder, tmp_path):
    path, video = tmp_path / "features.safetensors", tmp_path / "clip.y4m"
    frames = np.random.default_rng(0).integers(0, 256, (4, 3 * 512 * 512), dtype=np.uint8)
    header = b"YUV4MPEG2 W512 H512 F25:1 Ip C444\n"
    video.write_bytes(header + b"".join(b"FRAME\n" + frame.tobytes() for frame in frames))
    extractor = make(mae_folder, window=2, stride=2)
    assert extract_to_file(extractor, video, path) and not extract_to_file(extractor, video, path)
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["size"] == video.stat().st_size and facts["mtime"] == video.stat().st_mtime_ns
    os.utime(video, ns=(1, 1))
    assert not extract_to_file(extractor, video, path), "a new time alone is no new content"
    with video.open("r+b") as file:
        file.seek(video.stat().st_size // 2)
        file.write(b"another frame")
    with pytest.raises(FileExistsError, match="another video"):
        extract_to_file(extractor, video, path)


@pytest.mark.parametrize("is_long", [False, True])
def test_features_of_version_0_1_count_as_done_until_the_video_changes(mae_folder, clip, tmp_path, is_long):
    """Of a short file that version hashed every byte; of a longer one, only its time tells of a changed middle."""
    path, clip = tmp_path / "features.safetensors", Path(shutil.copy(clip, tmp_path))
    if is_long:
        with clip.open("ab") as file:
            file.write(b"\0\0\0\x08free" * 2**18)  # 2 MB of empty boxes
    assert extract_to_file(make(mae_folder), clip, path)
    facts = json.loads(path.with_suffix(".json").read_text())
    content, length = clip.read_bytes(), str(clip.stat().st_size).encode()
    # The rule of that version: length, first and last megabyte.
    facts["content"] = f"sha256:{hashlib.sha256(length + content[: 2**20] + content[-(2**20) :]).hexdigest()[:16]}"
    for name in ("size", "mtime"):
        del facts[name]
    path.with_suffix(".json").write_text(json.dumps(facts))
    assert not extract_to_file(make(mae_folder), clip, path)
    os.utime(clip, (time.time() + 60,) * 2)
    if is_long:
        with pytest.raises(FileExistsError, match="another video"):
            extract_to_file(make(mae_folder), clip, path)
    else:
        assert not extract_to_file(make(mae_folder), clip, path)


class NoModel:
    """An extractor that can be run in a fork: rows of numbers."""

    name, settings = "none", Settings("sha256:0", 8, 8)

    def __init__(self):
        self.computed = 0

    def num_rows(self, reader):
        return 5

    def rows(self, reader, first_row=0):
        for row in range(first_row, 5):
            self.computed += 1
            yield torch.full((1, 5000), float(row))


@pytest.mark.parametrize(
    ("death", "code", "left"),
    [
        ({"kill_before": "*02.safetensors"}, dying.KILLED, 2),
        ({"kill_before": "features.json"}, dying.KILLED, 5),
        ({"kill_before": "features.safetensors"}, dying.KILLED, 5),
        ({"file_size": 50_000}, dying.FULL, 5),
        ({"file_size": 10_000}, dying.FULL, 0),
    ],
)
def test_a_killed_run_and_a_full_disk_lose_no_finished_rows(clip, tmp_path, monkeypatch, death, code, left):
    monkeypatch.setattr("internvideo_hf.utils.journal.CHECKPOINT_EVERY_SECONDS", 0.0)
    path = tmp_path / "out/features.safetensors"
    path.parent.mkdir()
    assert dying.run(lambda: extract_to_file(NoModel(), clip, path), **death) == code
    again = NoModel()
    assert extract_to_file(again, clip, path) and again.computed == 5 - left
    assert load_file(path)["features"][:, 0].tolist() == [0, 1, 2, 3, 4]
    assert sorted(file.name for file in path.parent.iterdir()) == ["features.json", "features.safetensors"]


def test_two_processes_do_not_write_one_file(clip, tmp_path):
    path = tmp_path / "features.safetensors"
    with lock_file(path), pytest.raises(LockedError, match="features.safetensors is being written by process"):
        extract_to_file(NoModel(), clip, path)
    with lock_file(tmp_path / "other.safetensors"):
        assert extract_to_file(NoModel(), clip, path)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("tiny"))


def test_frames_are_sampled_at_a_rate_each_once(tiny_folder, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", 40)  # 30 a second
    extractor = FeatureExtractor(tiny_folder, 4, 2, device="cpu", fps=10.0)
    with VideoReader(clip) as reader:
        everything = reader.read(range(40))
        assert list(extractor.frame_numbers(reader)) == list(range(0, 40, 3))
        before = reader.frames_decoded
        rows = torch.cat(list(extractor.rows(reader)))
        assert reader.frames_decoded - before == 40
        assert len(rows) == extractor.num_rows(reader) == 6
        torch.testing.assert_close(torch.cat(list(extractor.rows(reader, 4))), rows[4:], atol=1e-5, rtol=1e-5)
    expected = window_by_window(tiny_folder, everything[::3], 4, 2)
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=1e-5)
    # Above the rate of the video frames repeat: at 45 a second, every other one.
    fast = FeatureExtractor(tiny_folder, 4, 4, device="cpu", fps=45.0)
    with VideoReader(clip) as reader:
        assert list(fast.frame_numbers(reader))[:6] == [0, 0, 1, 2, 2, 3]
        rows = torch.cat(list(fast.rows(reader)))
    expected = window_by_window(tiny_folder, everything[np.arange(60) * 2 // 3], 4, 4)
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=1e-5)


def test_windows_in_seconds_have_the_frames_of_the_model(mae_folder):
    """The model was built for 16 frames: in 2 seconds, 8 a second."""
    extractor = FeatureExtractor(mae_folder, "2s", "0.5s", device="cpu")
    assert extractor.processor.num_frames == 16
    settings = extractor.settings
    assert (settings.window, settings.stride, settings.fps) == (16, 4, 8.0)
    given = FeatureExtractor(mae_folder, "2s", 5, device="cpu", fps=4.0).settings
    assert (given.window, given.stride, given.fps) == (8, 5, 4.0)
    for window, stride, words in (
        ("16", "1s", "stride=1s needs frames that are sampled by time"),
        ("2 m", 4, 'window=2 m must be a number of frames, or of seconds, such as "2s"'),
        ("0s", 4, "window=0s must be a number"),
        (16, 0, "stride=0 must be at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            FeatureExtractor(mae_folder, window, stride, device="cpu")


def test_files_tell_how_their_frames_were_sampled_and_come_as_a_table(tiny_folder, tmp_path):
    clip, path = write_video(tmp_path / "clip.mp4", 40), tmp_path / "clip.mp4.safetensors"
    extractor = FeatureExtractor(tiny_folder, 4, 2, device="cpu", fps=10.0)
    assert extract_to_file(extractor, clip, path)
    facts = json.loads(path.with_suffix(".json").read_text())
    assert (facts["fps"], facts["sampled_fps"], facts["num_frames"], facts["rows"]) == (10.0, 10.0, 14, 6)
    assert facts["duration"] == pytest.approx(40 / 30)
    assert facts["seconds"][:2] == [[0.0, 0.4], [0.2, 0.6]] and facts["seconds"][-1] == [1.0, 1.3333]
    assert not extract_to_file(extractor, clip, path, as_parquet=True)
    table = pq.read_table(path.with_suffix(".parquet")).to_pydict()
    assert table["start"] == [start for start, _ in facts["seconds"]] and table["end"][-1] == 1.3333
    np.testing.assert_array_equal(np.array(table["features"], np.float32), load_file(path)["features"].numpy())
    for changed, words in (
        ({"fps": 5.0}, "fps 10.0, now 5.0"),
        ({}, "fps 10.0, now none"),
        ({"fps": 10.0, "layer": 1}, "layer none, now 1"),
        ({"fps": 10.0, "pooling": "mean"}, "pooling auto, now mean"),
    ):
        with pytest.raises(FileExistsError, match=words):
            extract_to_file(FeatureExtractor(tiny_folder, 4, 2, device="cpu", **changed), clip, path)


def test_a_damaged_stretch_leaves_a_gap(tiny_folder, tmp_path):
    holed = write_holed(tmp_path / "holed.mkv")
    extractor = make(tiny_folder, window=4, stride=2)
    with pytest.raises(VideoDecodeError, match="frame 18"):
        extract_to_file(extractor, holed, tmp_path / "refused.safetensors")
    path = tmp_path / "rows.safetensors"
    assert extract_to_file(extractor, holed, path, gaps=True)
    rows, facts = load_file(path)["features"], json.loads(path.with_suffix(".json").read_text())
    damaged = [any(frame in range(start, start + 4) for frame in (18, 19)) for start in range(0, 37, 2)]
    assert rows.isnan().any(dim=1).tolist() == damaged and rows[~torch.tensor(damaged)].isfinite().all()
    np.testing.assert_allclose(facts["gaps"], [[18 / 30, 20 / 30]], atol=2e-3)
    with VideoReader(write_video(tmp_path / "whole.mkv", codec="mjpeg")) as reader:
        whole = torch.cat(list(extractor.rows(reader)))
    torch.testing.assert_close(rows[~torch.tensor(damaged)], whole[~torch.tensor(damaged)], atol=1e-5, rtol=1e-5)
    assert not extract_to_file(extractor, holed, path, gaps=True)
    with pytest.raises(VideoDecodeError, match="frame 18"):
        extract_to_file(extractor, holed, path)
    assert path.exists(), "what cannot be replaced stays"
