"""The image of a masked autoencoder's reconstruction."""

from types import SimpleNamespace

import numpy as np
import pytest
from video.clips import write_video

from internvideo_hf.inference import reconstruction
from internvideo_hf.inference.reconstruction import GAP, LEFT, TOP, reconstruct
from internvideo_hf.utils.pictures import save_picture


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    y, x = np.mgrid[:224, :224]
    ramp = np.stack([x, y, (x + y) // 2], axis=-1).astype(np.uint8)
    return np.repeat(ramp[None], 16, axis=0)


def test_visible_tubelets_stand_in_all_three_rows_and_hidden_ones_are_grey(mae_pretrained_folder, frames):
    picture = np.asarray(reconstruct(frames, str(mae_pretrained_folder), mask_ratio=0.5, columns=4))
    side = 224 + 2 * GAP
    assert picture.shape == (TOP + 3 * side, LEFT + 4 * side, 3)
    first = LEFT + GAP
    original, masked, filled = (
        picture[TOP + row * side + GAP : TOP + row * side + GAP + 224, first : first + 224] for row in range(3)
    )
    assert np.abs(original.astype(int) - frames[0]).max() <= 1
    grey = (masked == 128).all(axis=-1)
    assert 0.45 < grey.mean() < 0.55
    np.testing.assert_array_equal(masked[~grey], original[~grey])
    np.testing.assert_array_equal(filled[~grey], original[~grey])
    assert (filled[grey] != original[grey]).any()


def test_rows_and_columns_are_labeled(mae_pretrained_folder, frames, monkeypatch):
    asked = []

    def draw(pictures, rows, columns):
        asked.append((rows, columns))
        return write(pictures, rows, columns)

    write = reconstruction._with_words
    monkeypatch.setattr(reconstruction, "_with_words", draw)
    sheet = np.asarray(reconstruct(frames, str(mae_pretrained_folder), mask_ratio=0.5, columns=2))
    # The model samples every fourth frame of the 16.
    assert asked == [([("original",), ("masked", "50% hidden"), ("reconstructed",)], ["frame 0", "frame 12"])]
    side = 224 + 2 * GAP
    words = [sheet[TOP + row * side : TOP + (row + 1) * side, :LEFT] for row in range(3)]
    words += [sheet[:TOP, LEFT + column * side : LEFT + (column + 1) * side] for column in range(2)]
    assert all(word.min() < 60 and word.mean() > 240 for word in words)


def test_columns_show_the_time_of_their_frames_in_the_video(tmp_path):
    times = [0, 5, 10, 60, 61, 62, 63, 90]
    path = write_video(tmp_path / "uneven.mp4", len(times), times=times, bframes=0)
    metadata = SimpleNamespace(frames_indices=[0, 2, 3, 7, 7], total_num_frames=8, fps=3.0)
    seconds = ["0.00 s", f"{10 / 30:.2f} s", f"{60 / 30:.2f} s", f"{90 / 30:.2f} s"]
    assert reconstruction._times(path, metadata, np.array([0, 1, 2, 3])) == seconds
    assert reconstruction._times(np.zeros(1), metadata, np.array([1, 4])) == ["0.67 s", "2.33 s"]


def test_a_seed_gives_the_same_picture_and_another_seed_another_mask(mae_pretrained_folder, frames):
    first, again, other = (
        np.asarray(reconstruct(frames, str(mae_pretrained_folder), seed=seed, columns=2, device="cpu"))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_model_without_a_decoder_is_refused(mae_folder, frames):
    with pytest.raises(ValueError, match="no decoder"):
        reconstruct(frames, str(mae_folder))


def test_an_unknown_mask_is_refused(mae_pretrained_folder, frames):
    with pytest.raises(ValueError, match="tube"):
        reconstruct(frames, str(mae_pretrained_folder), mask="blob")


def test_a_picture_appears_whole(mae_pretrained_folder, frames, tmp_path):
    save_picture(reconstruct(frames, str(mae_pretrained_folder), columns=1), tmp_path / "grid.png")
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]
