"""The image of a masked autoencoder's reconstruction."""

import numpy as np
import pytest

from internvideo_hf.inference.reconstruction import GAP, reconstruct
from internvideo_hf.utils.pictures import save_picture


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    y, x = np.mgrid[:224, :224]
    ramp = np.stack([x, y, (x + y) // 2], axis=-1).astype(np.uint8)
    return np.repeat(ramp[None], 16, axis=0)


def test_visible_tubelets_stand_in_all_three_rows_and_hidden_ones_are_grey(mae_pretrained_folder, frames):
    picture = np.asarray(reconstruct(frames, str(mae_pretrained_folder), mask_ratio=0.5, columns=4))
    side = 224 + 2 * GAP
    assert picture.shape == (3 * side, 4 * side, 3)
    original, masked, filled = (
        picture[row * side + GAP : row * side + GAP + 224, GAP : GAP + 224] for row in range(3)
    )
    assert np.abs(original.astype(int) - frames[0]).max() <= 1
    grey = (masked == 128).all(axis=-1)
    assert 0.45 < grey.mean() < 0.55
    np.testing.assert_array_equal(masked[~grey], original[~grey])
    np.testing.assert_array_equal(filled[~grey], original[~grey])
    assert (filled[grey] != original[grey]).any()


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
