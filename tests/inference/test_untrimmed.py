"""Features of raw videos for a head: the encoder and the windows of its training, and true times."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tasks.temporal_localization.heads import CHANNELS, head_config, write_encoder, write_head, write_holed
from video.clips import write_video

from internvideo_hf import ActionFormerForTemporalLocalization, FeatureExtractor, VideoDecodeError
from internvideo_hf.data.features import FeatureGrid
from internvideo_hf.inference.features import extract_to_file
from internvideo_hf.inference.untrimmed import (
    VideoFeatures,
    extract_features,
    extractor_for,
    features_file,
    read_given,
    resizing_of,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with an encoder, a head and a video of 40 frames, 30 a second."""
    folder = tmp_path_factory.mktemp("localization")
    write_head(folder / "head", write_encoder(folder / "encoder"))
    write_video(folder / "clip.mp4", 40)
    return folder


@pytest.fixture(scope="module")
def head(folder) -> ActionFormerForTemporalLocalization:
    return ActionFormerForTemporalLocalization.from_pretrained(folder / "head").eval()


@pytest.fixture(scope="module")
def extractor(folder, head) -> FeatureExtractor:
    return extractor_for(head.config, None, device="cpu")


def test_features_of_a_fixed_length_are_resized_over_the_duration(folder, extractor, head, tmp_path):
    free = extract_features(extractor, folder / "clip.mp4")
    fixed = extract_features(extractor, folder / "clip.mp4", fixed_length=8)
    expected = torch.nn.functional.interpolate(free.rows.T[None], size=8, mode="linear")[0].T
    torch.testing.assert_close(fixed.rows, expected)
    assert (fixed.grid.stride, fixed.grid.num_frames) == pytest.approx((40 / 8, 40 / 8 * 4))
    rule = {"window": 4, "stride": 2, "fps": None, "fixed_length": 8, "window_rows": 3}
    config = head_config(None, features={**rule, "source": "somewhere"})
    spread = extract_features(extractor_for(config, folder / "encoder"), folder / "clip.mp4", **resizing_of(config))
    torch.testing.assert_close(spread.rows, expected)
    assert spread.grid.num_frames == pytest.approx(40 / 8 * 3)
    # As training wrote it when one key held the rows that a window covers.
    old = head_config(None, features={"window": 3, "stride": None, "fps": 15, "fixed_length": 8})
    np.save(tmp_path / "rows.npy", free.rows.numpy())
    for options in ({}, {"stride": 7, "fps": 8}):
        given = read_given(tmp_path / "rows.npy", old, str(folder / "clip.mp4"), **options)
        torch.testing.assert_close(given.rows, expected)
        times = (given.in_seconds(torch.tensor([[1.0, 5.0]])), spread.in_seconds(torch.tensor([[1.0, 5.0]])))
        # 8 rows in 40 frames of 1/30 s: (1 * 5 + 7.5) / 30 and (5 * 5 + 7.5) / 30
        for found in times:
            torch.testing.assert_close(found, torch.tensor([[12.5 / 30, 32.5 / 30]]), check_dtype=False)


def test_copies_of_features_have_their_description_and_are_of_one_video(folder, head, extractor, tmp_path):
    holed = write_holed(tmp_path / "holed.mkv", 40, 18, 20)
    extract_to_file(extractor, holed, tmp_path / "holed.safetensors", as_npy=True, gaps=True)
    one, copy = (read_given(tmp_path / f"holed.{kind}", head.config, str(holed)) for kind in ("safetensors", "npy"))
    torch.testing.assert_close(one.rows, copy.rows, equal_nan=True)
    assert one.rows.isnan().any() and one.grid == copy.grid
    with pytest.raises(ValueError, match=r"of another video, .*holed.mkv, not of .*clip.mp4. .*--stride, --fps"):
        read_given(tmp_path / "holed.npy", head.config, str(folder / "clip.mp4"))
    (tmp_path / "holed.json").write_text("{")
    with pytest.raises(ValueError, match=r"holed.json does not describe features"):
        read_given(tmp_path / "holed.npy", head.config, str(holed))


def test_frames_of_uneven_length_give_their_true_times():
    # Rows of one frame each: half a second at 10 a second, then 5 frames of a second each.
    seconds = [[0.1 * n, 0.1 * (n + 1)] for n in range(5)] + [[0.5 + n, 1.5 + n] for n in range(5)]
    grid = FeatureGrid(stride=1, num_frames=1, fps=10 / 5.5)
    features = VideoFeatures(torch.zeros(10, 1), grid, 5.5, seconds)
    found = features.in_seconds(torch.tensor([[0.0, 4.0], [5.0, 8.0]]))
    torch.testing.assert_close(
        found, torch.tensor([[0.05, 0.45], [1.0, 4.0]]), atol=1e-4, rtol=1e-4, check_dtype=False
    )


def test_other_features_than_those_of_the_training_are_refused(folder, head, tmp_path):
    for channels, words in ((CHANNELS, "was trained on features of .*encoder"), (8, "makes others")):
        other = tmp_path / f"other-{channels}"
        if channels == CHANNELS:
            shutil.copytree(folder / "encoder", other)
            config = json.loads((other / "config.json").read_text())
            (other / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-3}))
        else:
            write_encoder(other, channels)
        with pytest.raises(ValueError, match=words):
            extractor_for(head.config, other, device="cpu")
    unknown = head_config(None)
    with pytest.raises(ValueError, match=r"takes features of 16 channels, .*other-8 gives 8"):
        extractor_for(unknown, tmp_path / "other-8", device="cpu")
    with pytest.raises(ValueError, match=r"does not name the encoder.*--encoder"):
        extractor_for(unknown, None)
    with pytest.raises(ValueError, match=r"does not say which windows.*--features, --stride, --fps"):
        extractor_for(head_config(None, features=None), folder / "encoder")
    with pytest.raises(ValueError, match=r"windows of 4 frames, 2.5 apart, .*whole frames"):
        extractor_for(head_config(None, features={"window": 4.0, "stride": 2.5}), folder / "encoder")
    whole = extractor_for(head_config(None, features={"window": 4.0, "stride": 2.0}), folder / "encoder", device="cpu")
    assert (whole.settings.window, whole.settings.stride) == (4, 2)
    gone = head_config(None, features={"window": 4, "stride": 2, "encoder": "/gone/encoder"})
    with pytest.raises(ValueError, match="was /gone/encoder, which is not there"):
        extractor_for(gone, None)


def test_given_features_are_those_of_the_training_or_have_their_times_given(folder, head, extractor, tmp_path):
    clip = str(folder / "clip.mp4")
    own = tmp_path / "own.safetensors"
    extract_to_file(extractor, clip, own)
    read = read_given(own, head.config, clip)
    made = extract_features(extractor, clip)
    assert torch.equal(read.rows, made.rows) and (read.grid, read.duration) == (made.grid, made.duration)
    other = tmp_path / "other.safetensors"
    extract_to_file(FeatureExtractor(folder / "encoder", 4, 4, device="cpu", fps=10.0), clip, other)
    with pytest.raises(ValueError, match=r"fps none, now 10.0; stride 2, now 4.*--stride, --fps"):
        read_given(other, head.config, clip)
    assert read_given(other, head.config, clip, stride=4, fps=10.0).grid == FeatureGrid(4, 4, 10.0)
    np.save(tmp_path / "x.npy", made.rows.numpy())
    with pytest.raises(ValueError, match="has no description beside it: give its stride"):
        read_given(tmp_path / "x.npy", head.config, clip)
    assert read_given(tmp_path / "x.npy", head.config, clip, stride=2, fps=30, window=6).grid == FeatureGrid(2, 6, 30)
    save_file({"features": torch.zeros(5, 3)}, tmp_path / "narrow.safetensors")
    with pytest.raises(ValueError, match="takes features of 16 channels, .*narrow.safetensors gives 3"):
        read_given(tmp_path / "narrow.safetensors", head.config, clip, stride=2, fps=30)


def test_a_video_shorter_than_a_window_is_refused(extractor, tmp_path):
    short = write_video(tmp_path / "short.mp4", 3)
    with pytest.raises(VideoDecodeError, match="short.mp4: it has 3 frames, fewer than the 4 of one window"):
        extract_features(extractor, short)
    with pytest.raises(VideoDecodeError, match="every window has a damaged frame"):
        extract_features(extractor, write_holed(tmp_path / "holed.mkv", 12, 1, 12))


def test_kept_features_lie_beside_the_video_or_the_file_that_it_lies_in(extractor, tmp_path):
    (tmp_path / "x.tar").touch()
    beside, inside = (features_file(extractor, f"{tmp_path}/{name}", keep=True) for name in ("a.mp4", "x.tar/b/a.mp4"))
    assert beside.parent == inside.parent == tmp_path
    assert beside.name.startswith("a.mp4.") and inside.name.startswith("x.tar.b.a.mp4.")
