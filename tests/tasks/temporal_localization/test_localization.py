"""Raw videos: features by hand, head by hand and decoding by hand give the same actions."""

import copy
import json

import numpy as np
import pytest
import torch
from tasks.temporal_localization.heads import CHANNELS, CLASSES, head_config, write_encoder, write_head, write_holed
from transformers import AutoModel, AutoModelForVideoClassification, AutoVideoProcessor
from video.clips import write_video

from internvideo_hf import ActionFormerForTemporalLocalization, FeatureExtractor, VideoReader
from internvideo_hf.data.features import FeatureGrid
from internvideo_hf.data.finding import video_id
from internvideo_hf.inference.features import extract_to_file
from internvideo_hf.inference.untrimmed import VideoFeatures, extract_features, extractor_for
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.protocol import FeatureData
from internvideo_hf.tasks.temporal_localization.annotations import VideoAnnotation
from internvideo_hf.tasks.temporal_localization.decoding import (
    Detections,
    Fusion,
    Selection,
    Suppression,
    fuse_class_scores,
    select_candidates,
    suppress,
)
from internvideo_hf.tasks.temporal_localization.localization import (
    Action,
    ClassScorer,
    Localization,
    Localizer,
)
from internvideo_hf.tasks.temporal_localization.sources import open_features


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


def features_by_hand(folder, frames: np.ndarray) -> torch.Tensor:
    model = AutoModel.from_pretrained(folder / "encoder").eval()
    processor = AutoVideoProcessor.from_pretrained(folder / "encoder")
    clips = [frames[start : start + 4] for start in range(0, len(frames) - 3, 2)]
    options = {"do_sample_frames": False, "return_tensors": "pt"}
    pixels = torch.cat([processor(clip, **options)["pixel_values_videos"] for clip in clips])
    with torch.no_grad():
        return model(pixels).pooler_output


def candidates_by_hand(head, features: torch.Tensor) -> Detections:
    with torch.no_grad():
        outputs = head(features[None])
    levels = [
        select_candidates(outputs.logits[n][0], outputs.offsets[n][0], outputs.masks[n][0], 2**n, Selection(**
                          head.config.selection))
        for n in range(2)
    ]  # fmt: skip
    return Detections(*(torch.cat(parts) for parts in zip(*levels, strict=True)))


def test_actions_are_those_of_each_step_by_hand(folder, head, extractor):
    with VideoReader(folder / "clip.mp4") as reader:
        rows = features_by_hand(folder, reader.read(range(40)))
        duration = reader.duration
    found = suppress(candidates_by_hand(head, rows), Suppression(**head.config.suppression))
    assert len(found.scores) > 10
    seconds = ((found.segments * 2 + 2) / 30).clamp(0, duration)
    answer = Localizer(head).localize(extract_features(extractor, folder / "clip.mp4"))
    assert [action.label for action in answer.actions] == [CLASSES[label] for label in found.labels.tolist()]
    numbers = torch.tensor([action[1:] for action in answer.actions])
    torch.testing.assert_close(numbers, torch.column_stack([found.scores, seconds]), atol=1e-4, rtol=1e-4)
    assert (answer.duration, answer.gaps) == (pytest.approx(40 / 30), [])


def test_a_gap_divides_a_video_into_sequences(folder, head, extractor, tmp_path):
    holed = write_holed(tmp_path / "holed.mkv", 60, 24, 26)
    whole = extract_features(extractor, write_video(tmp_path / "whole.mkv", 60, codec="mjpeg")).rows
    features = extract_features(extractor, holed, path=tmp_path / "work/rows.safetensors")
    is_gap = torch.tensor([start < 26 and start + 4 > 24 for start in range(0, 57, 2)])
    torch.testing.assert_close(features.rows[~is_gap], whole[~is_gap], atol=1e-4, rtol=1e-4)
    assert features.rows[is_gap].isnan().all()
    first, last = is_gap.nonzero().min().item(), is_gap.nonzero().max().item() + 1
    before, after = candidates_by_hand(head, whole[:first]), candidates_by_hand(head, whole[last:])
    after = after._replace(segments=after.segments + last)
    joined = Detections(*(torch.cat(pair) for pair in zip(before, after, strict=True)))
    found = suppress(joined, Suppression(**head.config.suppression))
    answer = Localizer(head).localize(features)
    np.testing.assert_allclose(answer.gaps, [[24 / 30, 26 / 30]], atol=2e-3)
    torch.testing.assert_close(
        torch.tensor([action.score for action in answer.actions]), found.scores, atol=1e-4, rtol=1e-4
    )


def test_segments_end_with_their_stretch(head):
    """A head whose segments are 6 rows long to both sides of each row; rows 10 to 13 are damaged."""
    rows = torch.randn(30, CHANNELS, generator=torch.Generator().manual_seed(0))
    rows[10:14] = torch.nan
    features = VideoFeatures(rows, FeatureGrid(stride=2, num_frames=4, fps=10), 6.2)
    long = copy.deepcopy(head)
    torch.nn.init.zeros_(long.regressor.output.weight)
    torch.nn.init.constant_(long.regressor.output.bias, 6.0)
    for scale in long.regressor.scales:
        torch.nn.init.ones_(scale.factor)
    found = Localizer(long).detect(features).segments
    # A window has 4 frames, 2 rows: row 9 ends at 10, row 14 begins at 13.
    inside = (found[:, 1] <= 10) | (found[:, 0] >= 13)
    assert inside.all() and (found[:, 1] == 10).any() and (found[:, 0] == 13).any()
    assert found.min() < 0 and found.max() > 30, "ends of the video are no gaps"
    nothing = Localizer(long).localize(VideoFeatures(torch.full((5, CHANNELS), torch.nan), features.grid, 2.0))
    assert nothing.actions == []


def test_a_classifier_names_segments_by_the_whole_video(folder, head, extractor, tmp_path):
    proposals = ActionFormerForTemporalLocalization(head_config(folder / "encoder", id2label={0: "LABEL_0"})).eval()
    features = extract_features(extractor, folder / "clip.mp4")
    plain = Localizer(proposals)
    assert {action.label for action in plain.localize(features).actions} == {"action"}
    scorer = ClassScorer.open(folder / "encoder", device="cpu")
    model = AutoModelForVideoClassification.from_pretrained(folder / "encoder").eval()
    processor = AutoVideoProcessor.from_pretrained(folder / "encoder")
    pixels = processor(videos=[str(folder / "clip.mp4")], return_tensors="pt")
    with torch.no_grad():
        scores = model(pixels["pixel_values_videos"]).logits.softmax(-1)[0]
    found = plain.detect(features)
    expected = fuse_class_scores(found, scores, Fusion())
    answer = Localizer(proposals, scorer).localize(features, str(folder / "clip.mp4"))
    best = expected.scores.sort(descending=True, stable=True)
    torch.testing.assert_close(
        torch.tensor([action.score for action in answer.actions]), best.values, atol=1e-5, rtol=1e-4
    )
    assert [action.label for action in answer.actions][:3] == [
        CLASSES[label] for label in expected.labels[best.indices][:3].tolist()
    ]
    (tmp_path / "scores.json").write_text(json.dumps({"results": {"clip": [scores.tolist()]}}))
    of_file = Localizer(proposals, ClassScorer.open(tmp_path / "scores.json", list(CLASSES.values())))
    again = of_file.localize(features, str(folder / "clip.mp4")).actions
    assert [action.label for action in again] == [action.label for action in answer.actions]
    with pytest.raises(ValueError, match="has no scores of other"):
        of_file.localize(features, "other.mp4")
    with pytest.raises(ValueError, match="scores of 3 classes, and there are 2 labels"):
        ClassScorer.open(tmp_path / "scores.json", ["a", "b"])


def test_a_sampled_rate_is_that_of_the_head(folder, tmp_path):
    extractor = FeatureExtractor(folder / "encoder", 4, 2, device="cpu", fps=10.0)
    extract_to_file(extractor, folder / "clip.mp4", tmp_path / "features/clip.mp4.safetensors")
    videos = {"clip": VideoAnnotation("training", np.array([[0.2, 1.0]], np.float32), np.array([0]), fps=30.0)}
    samples, facts = open_features(FeatureData(), tmp_path, videos)
    assert facts["fps"] == 10 and samples.load("clip").segments.tolist() == [[0.0, 4.0]]
    again = extractor_for(head_config(None, features=facts), None, device="cpu")
    assert again.settings == extractor.settings
    for other, words in ((None, "that of each video"), (5.0, "5.0")):
        with pytest.raises(RecipeError, match=f"have fps=10.0, and the model was trained on fps={words}"):
            open_features(FeatureData(), tmp_path, videos, trained_on={**facts, "fps": other})
    _, fixed = open_features(FeatureData(fixed_length=6, num_frames=2), tmp_path, videos)
    assert fixed == {**facts, "fixed_length": 6, "window_rows": 2}


def test_the_best_actions_are_kept_and_ids_lose_their_ending():
    actions = [Action("a", 0.9, 0, 1), Action("b", 0.5, 1, 2), Action("c", 0.1, 2, 3)]
    found = Localization(actions, 3.0, [[1.0, 1.5]])
    assert found.best(1).actions == actions[:1] and found.best(None, 0.5).actions == actions[:2]
    assert found.best(1).to_dict() == {
        "duration": 3.0,
        "segments": [{"label": "a", "score": 0.9, "start": 0, "end": 1}],
        "gaps": [[1.0, 1.5]],
    }
    assert (video_id("x/v_1.mp4"), video_id("x/v_1.5")) == ("v_1", "v_1.5")


def test_a_model_that_refines_segments_does_not_localize():
    from internvideo_hf import TCANetConfig, TCANetForTemporalLocalization

    config = TCANetConfig(feature_size=8, hidden_size=8, intermediate_size=8, boundary_hidden_size=4)
    with torch.device("meta"):
        model = TCANetForTemporalLocalization(config)
    with pytest.raises(ValueError, match="refines the segments of another model"):
        Localizer(model)
