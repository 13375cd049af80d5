"""Recalls of validation during contrastive training, and the inputs of the loss."""

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, EvalPrediction

from internvideo_hf.tasks.caption_training import recalls, tokenize_captions


def test_captions_are_true_of_all_their_videos_and_blanks_count_for_nothing():
    videos, captions = [1, 1, 2, 3, -100], [10, 11, 12, 11, -100]  # two captions of the first; the third shares one
    texts = torch.nn.functional.one_hot(torch.tensor([0, 2, 1, 2, 3]), 4).float().numpy()
    clips = np.array([[1, 0, 0.1, 0], [1, 0, 0.1, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 9]])
    found = recalls(EvalPrediction((clips, texts), (np.array(captions), np.array(videos))))
    assert found["text_to_video_R@1"] == found["video_to_text_R@1"] == 100
    wrong = recalls(EvalPrediction((clips[[2, 2, 0, 3, 4]], texts), (np.array(captions), np.array(videos))))
    assert wrong["text_to_video_R@1"] == 50 and wrong["video_to_text_R@1"] == pytest.approx(100 / 3)


def test_long_captions_are_cut_before_their_end_token(mm_folder):
    processor = AutoProcessor.from_pretrained(mm_folder)
    inputs = tokenize_captions(["a dog", "word " * 100], processor=processor)
    assert inputs["return_loss"] is True and inputs["input_ids"].shape == (2, 77)
    end = processor.tokenizer.eos_token_id
    assert inputs["input_ids"][0, 3] == inputs["input_ids"][1, 76] == end
