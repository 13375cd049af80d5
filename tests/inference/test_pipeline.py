"""The base classes of pipelines: one video or several, options, refusals."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from models.tiny_classifiers import write_classifiers
from PIL import Image
from torch.utils.data import Dataset
from transformers import AutoModel, AutoModelForVideoClassification, AutoVideoProcessor, pipeline

from internvideo_hf import MultiViewVideoClassificationPipeline, VideoReader, VideoTextRetrievalPipeline
from internvideo_hf.inference.pipeline import check_top_k

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


TASKS = {
    "video-classification": {},
    "multi-view-video-classification": {},
    "zero-shot-video-classification": {"candidate_labels": "a dog, a cat"},
    "video-text-retrieval": {"texts": ["a dog", "a cat"]},
}
KINDS = {
    "stream": iter,
    "stream of images": lambda frames: map(Image.fromarray, frames),
    "stream of tensors": lambda frames: iter(torch.tensor(frames).permute(0, 3, 1, 2)),
    "list": list,
    "images": lambda frames: [Image.fromarray(frame) for frame in frames],
    "tensor": torch.tensor,
    "tensor, channels first": lambda frames: torch.tensor(frames).permute(0, 3, 1, 2),
    "reader": lambda frames: VideoReader(frames, fps=5),
    "row": lambda frames: {"path": None, "bytes": _gif(frames)},
    "file": lambda frames: io.BytesIO(_gif(frames)),
    "decoded row": lambda frames: SimpleNamespace(_hf_encoded={"path": None, "bytes": _gif(frames)}),
}


def _gif(frames: np.ndarray) -> bytes:
    first, *others = [Image.fromarray(frame[..., 0]) for frame in frames]  # gray: 256 colors, without loss
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=others, duration=200)
    return file.getvalue()


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifiers(tmp_path_factory.mktemp("classifiers"))


@pytest.mark.parametrize("task", TASKS)
def test_every_pipeline_takes_frames_of_every_kind_alone_and_in_batches(task, classifiers, small_folder):
    options = TASKS[task]
    answer = pipeline(task, model=small_folder if options else classifiers / "uniformerv2", device="cpu")
    gray = FRAMES[:6, :, :, :1].repeat(3, axis=-1)
    expected = answer(gray, **options)
    for kind in ("stream", "decoded row"):
        assert answer(KINDS[kind](gray), **options) == expected, kind
    several = [kind(gray) for kind in KINDS.values()]
    both, same = (
        answer(videos, batch_size=len(KINDS), **options) for videos in (several, np.stack([gray] * len(KINDS)))
    )
    assert both == same
    assert len(both["similarity"] if "texts" in options else both) == len(KINDS)


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
    assert check_top_k(3) == 3
    with pytest.raises(ValueError, match="top_k=0 must be at least 1"):
        check_top_k(0)
