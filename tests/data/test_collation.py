"""Batches: views, captions and labels of samples."""

import pytest
import torch
from data.settings import settings

from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.failures import TooManyFailuresError
from internvideo_hf.data.samples import make_sample


def test_a_batch_of_bad_videos_only_is_an_error():
    with pytest.raises(TooManyFailuresError, match="None of the 2 videos.*b.mp4: it is empty"):
        VideoCollator()([{"failure": "a.mp4: it is empty."}, {"failure": "b.mp4: it is empty."}])


def test_captions_stay_text_or_become_tokens(rows):
    samples = [
        make_sample(row | {"caption": f"video {i}"}, settings(num_views=2), i) for i, row in enumerate(rows[:2])
    ]
    assert VideoCollator()(samples)["captions"] == ["video 0", "video 0", "video 1", "video 1"]
    batch = VideoCollator(tokenize=lambda texts: {"input_ids": torch.tensor([[len(t)] for t in texts])})(samples)
    assert batch["input_ids"].shape == (4, 1) and "captions" not in batch
    with pytest.raises(ValueError, match="captions: got 2 for 4"):
        VideoCollator()([samples[0], make_sample(rows[0], settings(num_views=2), 0)])


def test_labels_must_be_there_for_all_or_none(rows):
    unlabelled = make_sample({"video": rows[0]["video"]}, settings(), 0)
    with pytest.raises(ValueError, match="fields"):
        VideoCollator()([make_sample(rows[0], settings(), 0), unlabelled])
    with pytest.raises(ValueError, match="mixup: got samples without labels"):
        VideoCollator(mixup={"num_labels": 6})([unlabelled, unlabelled])
    with pytest.raises(ValueError, match="num_labels"):
        VideoCollator(mixup={"mixup_alpha": 0.8})
