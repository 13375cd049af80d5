"""Zero-shot scores by hand."""

import pytest
import torch

from internvideo_hf.processing.post_process import zero_shot_scores


@pytest.mark.parametrize(("prompts", "labels", "videos"), [(1, 2, 1), (3, 4, 5)])
def test_scores_are_averaged_probabilities_or_probabilities_of_averaged_cosines(prompts, labels, videos):
    torch.manual_seed(0)
    video = torch.nn.functional.normalize(torch.randn(videos, 6), dim=-1)
    text = torch.nn.functional.normalize(torch.randn(prompts, labels, 6), dim=-1)
    probabilities, means = torch.zeros(videos, labels), torch.zeros(videos, labels)
    for prompt in text:
        probabilities += (10.0 * video @ prompt.T).softmax(dim=1) / prompts
        means += video @ prompt.T / prompts
    scores, cosines = zero_shot_scores(video, text, 10.0)
    torch.testing.assert_close(scores, probabilities)
    torch.testing.assert_close(cosines, means)
    scores, cosines = zero_shot_scores(video, text, torch.tensor(10.0), mean_of="cosines")
    torch.testing.assert_close(scores, (10.0 * means).softmax(dim=1))
    torch.testing.assert_close(cosines, means)
