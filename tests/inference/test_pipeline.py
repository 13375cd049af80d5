"""The base classes of pipelines: one video or several, options, refusals."""

import numpy as np
import pytest
from torch.utils.data import Dataset
from transformers import AutoModel, AutoModelForVideoClassification, AutoVideoProcessor

from internvideo_hf import MultiViewVideoClassificationPipeline, VideoTextRetrievalPipeline
from internvideo_hf.inference.pipeline import check_count

FRAMES = np.random.default_rng(0).integers(0, 256, (20, 40, 60, 3), dtype=np.uint8)


class Videos(Dataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> np.ndarray:
        if index >= 2:
            raise IndexError
        return FRAMES[index * 4 :]


@pytest.fixture(scope="module")
def classify(mae_folder) -> MultiViewVideoClassificationPipeline:
    model, processor = (
        auto.from_pretrained(mae_folder) for auto in (AutoModelForVideoClassification, AutoVideoProcessor)
    )
    return MultiViewVideoClassificationPipeline(model=model, video_processor=processor, device="cpu")


def test_one_video_gives_one_answer_and_several_a_list(classify):
    alone = [classify(FRAMES[index * 4 :], top_k=2) for index in range(2)]
    assert len(alone[0]) == 2 and set(alone[0][0]) == {"label", "score"}
    for several in (Videos(), [FRAMES, FRAMES[4:]], (frames for frames in (FRAMES, FRAMES[4:]))):
        assert classify(several, top_k=2) == alone
    assert classify([]) == []


def test_inputs_read_elsewhere_are_answered_together_as_alone(classify):
    read = classify.video_reader()
    inputs = [read(FRAMES), read(FRAMES[4:])]
    together = classify.answer_batch(inputs, top_k=2)
    for video, found in zip((FRAMES, FRAMES[4:]), together, strict=True):
        for mine, theirs in zip(classify(video, top_k=2), found, strict=True):
            assert mine["label"] == theirs["label"] and mine["score"] == pytest.approx(theirs["score"], abs=1e-5)
    assert len(classify.answer(inputs[0])) == 5
    classify.check_options(top_k=2)
    with pytest.raises(ValueError, match="top_k=0"):
        classify.check_options(top_k=0)


def test_options_of_a_call_add_to_those_of_the_pipeline(mae_folder, classify):
    model = AutoModelForVideoClassification.from_pretrained(mae_folder)
    processor = AutoVideoProcessor.from_pretrained(mae_folder)
    sparse = MultiViewVideoClassificationPipeline(
        model=model, video_processor=processor, device="cpu", sampler_kwargs={"sampling_rate": 1}, num_crops=3
    )
    expected = classify(FRAMES, sampler_kwargs={"sampling_rate": 1}, num_crops=3, num_clips=2)
    assert sparse(FRAMES, num_clips=2) == expected != classify(FRAMES, num_clips=2)
    assert sparse(FRAMES, num_clips=2, num_crops=1) == classify(
        FRAMES, sampler_kwargs={"sampling_rate": 1}, num_clips=2
    )


def test_an_unknown_option_is_refused_with_the_nearest(classify):
    with pytest.raises(TypeError, match="num_clip.*Did you mean num_clips"):
        classify(FRAMES, num_clip=2)
    with pytest.raises(TypeError, match="Did you mean top_k"):
        classify(FRAMES, topk=2)


def test_a_model_that_cannot_compare_videos_and_texts_is_refused(mae_folder):
    with pytest.raises(ValueError, match="has no get_video_features"):
        VideoTextRetrievalPipeline(AutoModel.from_pretrained(mae_folder))


def test_numbers_of_answers_start_at_one():
    assert check_count("top_k", 3) == 3
    with pytest.raises(ValueError, match="top_k=0 must be at least 1"):
        check_count("top_k", 0)
