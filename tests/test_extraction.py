"""Sliding-window features: equal to one read a window, each frame decoded once, taken up after a kill."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoVideoProcessor

from internvideo_hf import FeatureExtractor, VideoDecodeError, VideoReader, extraction
from internvideo_hf.extraction import extract_to_file


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (45, 24, 40, 3), dtype=np.uint8)


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


def test_every_frame_is_decoded_once(mae_folder, bikes):
    extractor = make(mae_folder, window=16, stride=64)
    with VideoReader(bikes, backend="pyav") as reader:
        before = reader.frames_decoded
        list(extractor.rows(reader))
        assert reader.frames_decoded - before == reader.num_frames


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


def test_a_finished_file_is_not_made_again_and_other_settings_do_not_replace_it(mae_folder, bikes, tmp_path):
    path = tmp_path / "features.safetensors"
    assert extract_to_file(make(mae_folder, 16, 64), bikes, path)
    assert not extract_to_file(make(mae_folder, 16, 64), bikes, path)
    with pytest.raises(FileExistsError, match="other settings"):
        extract_to_file(make(mae_folder, 16, 32), bikes, path)


def test_a_killed_run_is_taken_up_where_it_was(mae_folder, bikes, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "ROWS_A_PART", 2)
    extractor = make(mae_folder, window=16, stride=32, batch_size=1)
    whole, path = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    extract_to_file(extractor, bikes, whole)

    embed, calls = extractor._embed, []

    def embed_until_killed(clips):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return embed(clips)

    extractor._embed = embed_until_killed
    with pytest.raises(KeyboardInterrupt):
        extract_to_file(extractor, bikes, path)
    assert not path.exists()
    calls.clear()
    calls.extend([1] * 10)
    assert extract_to_file(extractor, bikes, path)
    assert len(calls) - 10 == 8 - 4  # four of the eight rows were on disk
    torch.testing.assert_close(load_file(path)["features"], load_file(whole)["features"], atol=1e-5, rtol=1e-5)


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
