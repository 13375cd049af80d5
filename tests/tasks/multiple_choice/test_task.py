"""Multiple choice by a protocol: each question's options are compared with its video."""

import numpy as np
from tasks.lists import SENTENCES, VIDEOS, evaluate, similarity_by_hand, videos_of


def test_options_are_compared_with_their_video(mm_folder, lists):
    result, printed = evaluate("multiple_choice/msrvtt", mm_folder, lists)
    pixels = {"sampler": "internvideo_mm_intervals", "size": {"height": 256, "width": 256}}
    texts = [*SENTENCES, "x"]
    similarity = similarity_by_hand(mm_folder, videos_of(lists), texts, **pixels, resize_method="pil_bicubic")
    right = (similarity.argmax(axis=0) == np.arange(VIDEOS)).mean()
    assert result["scores"] == {"top-1": 100 * right} and "93.44" in printed
