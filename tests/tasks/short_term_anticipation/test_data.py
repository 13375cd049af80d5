"""Samples of short-term anticipation: frames up to the moment, boxes that follow, labels by overlap, footage."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tasks.action_detection.drawn import write_frames
from tasks.short_term_anticipation.drawn import (
    COLORS,
    CONTACT,
    HEIGHT,
    PROCESSOR,
    RATE,
    VERBS,
    WIDTH,
    draw,
    write_ego4d,
)

from internvideo_hf import InternVideoVideoProcessor
from internvideo_hf.data.failures import FailureLog
from internvideo_hf.data.records import ManifestError
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.protocol import InteractionData
from internvideo_hf.tasks.short_term_anticipation.annotations import read_interactions
from internvideo_hf.tasks.short_term_anticipation.data import (
    NO_VERB,
    ClipRule,
    MomentDataset,
    collate,
    find_detections,
    read_moments,
    read_training_rows,
    rows_of,
    verbs_of,
)
from internvideo_hf.video.errors import VideoDecodeError

DATA = InteractionData(detections="object_detections.json", short_sides=[32, 40], crop_size=32)
PLAIN = {**PROCESSOR, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
TRAIN, VAL = Path("annotations/fho_sta_train.json"), Path("annotations/fho_sta_val.json")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ego4d")
    write_ego4d(folder, videos=3, version=1)
    return folder


def rule_of(data: InteractionData = DATA, **changes) -> ClipRule:
    return ClipRule.of(InternVideoVideoProcessor(**PLAIN | changes), data)


def rows(root: Path, data: InteractionData = DATA, path: Path = TRAIN) -> list[dict]:
    return list(read_training_rows(root / path, root, interactions=data)[0])


def test_rows_have_objects_and_the_truth_and_verbs_their_names(root):
    table, verbs = read_training_rows(root / TRAIN, root, interactions=DATA)
    assert verbs == [*VERBS, NO_VERB] and len(table) == 6
    row = table[0]
    assert (row["uid"], row["frame"], row["size"]) == ("video-0_0000008", 8, [HEIGHT, WIDTH])
    assert row["nouns"] == [0, 1] and row["scores"] == [0.9, 0.4] and len(row["boxes"]) == 2
    assert (row["true_nouns"], row["true_verbs"], row["true_times"]) == ([0], [0], [(CONTACT - 8) / RATE])
    alone = rows(root, replace(DATA, detections=None))
    assert alone[0]["boxes"] == alone[0]["true_boxes"] and alone[0]["scores"] == [1.0]
    assert len(rows(root, replace(DATA, min_score=0.5))[0]["boxes"]) == 1


def test_a_clip_ends_with_the_moment(root):
    row = rows(root)[0]
    sample = MomentDataset([row], rule_of(), training=False)[0]
    pixels = sample["pixel_values_videos"]
    assert pixels.shape == (4, 3, 32, 48)
    box = row["true_boxes"][0]
    places = [tuple(int(edge) for edge in (top, left)) for left, top, *_ in (row["boxes"][0], row["boxes"][1])]
    for picture, frame in zip(pixels, (2, 4, 6, 8), strict=True):
        expected = torch.from_numpy(draw(0, places, frame)).movedim(-1, 0) / 255
        torch.testing.assert_close(picture, expected, atol=0.02, rtol=0)
    assert sample["verb_labels"].tolist() == [0, -100] and sample["time_labels"][0] == 1.0
    assert sample["time_labels"][1].isnan() and sample["boxes"][0].tolist() == [edge + 0.25 for edge in box]


def test_boxes_follow_the_frame_in_training(root):
    row = {**rows(root)[0], "true_boxes": [], "true_verbs": [], "true_times": []}
    rule = rule_of(replace(DATA, flip=0.5))
    shown = 0
    for seed in range(12):
        frames = np.full((4, HEIGHT, WIDTH, 3), 40, np.uint8)
        boxes = [[4, 4, 13, 13], [36, 8, 45, 17]]
        for (left, top, right, bottom), color in zip(boxes, COLORS, strict=True):
            frames[:, top : bottom + 1, left : right + 1] = color
        sample = rule.sample({**row, "boxes": boxes}, frames, seed)
        assert sample["pixel_values_videos"].shape == (4, 3, 32, 32)
        for left, top, right, bottom in sample["boxes"].round().int().tolist():
            if right - left < 6 or bottom - top < 6:
                continue
            middle = sample["pixel_values_videos"][0, :, top + 3 : bottom - 2, left + 2].mean(dim=1)
            assert middle.argmax().item() in (0, 1) and middle.max() > 0.9 and middle.min() < 0.1
            shown += 1
    assert shown > 8


def test_the_truth_is_trained_on_beside_detected_objects_and_not_twice(root):
    row = rows(root)[0]
    frames = np.zeros((4, HEIGHT, WIDTH, 3), np.uint8)
    whole = replace(DATA, crop_size=None, short_sides=None, flip=0)
    beside = rule_of(whole).sample(row, frames, 0)
    assert len(beside["boxes"]) == 3 and beside["verb_labels"].tolist() == [0, -100, 0]
    assert len(rule_of(replace(whole, with_truth=False)).sample(row, frames, 0)["boxes"]) == 2
    alone = rows(root, replace(whole, detections=None))[0]
    assert len(rule_of(replace(whole, detections=None)).sample(alone, frames, 0)["boxes"]) == 1


def test_labels_are_of_the_true_box_with_the_largest_overlap_from_a_half_on():
    rule = rule_of()
    true = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 4]])
    boxes = torch.tensor([[0.0, 0, 9, 4], [0, 0, 9, 9], [5, 0, 14, 9], [0, 0, 9, 19]])
    found = rule.targets(boxes, true, torch.tensor([3, 4]), torch.tensor([0.5, 1.5]))
    # The last overlaps by exactly a half with the first true box: 100 of 200 pixels.
    assert found["verb_labels"].tolist() == [4, 3, -100, 3]
    assert found["time_labels"].nan_to_num(-1).tolist() == [1.5, 0.5, -1, 0.5]
    none = rule.targets(boxes, true[:0], torch.tensor([], dtype=torch.int64), torch.tensor([]))
    assert (none["verb_labels"] == -100).all() and none["time_labels"].isnan().all()


def test_footage_of_another_resolution_has_the_same_boxes_in_the_view(root, tmp_path):
    row = rows(root)[0]
    small = np.stack([np.zeros((HEIGHT // 2, WIDTH // 2, 3), np.uint8)] * 4)
    large = np.stack([np.zeros((HEIGHT * 2, WIDTH * 2, 3), np.uint8)] * 4)
    one, other = (rule_of().sample(row, frames, None) for frames in (small, large))
    torch.testing.assert_close(one["boxes"], other["boxes"], atol=0.6, rtol=0)
    assert one["pixel_values_videos"].shape == other["pixel_values_videos"].shape


def test_the_exported_clip_comes_first_and_counts_its_own_frames(root, tmp_path):
    for name in ("annotations", "full_scale"):
        (tmp_path / name).symlink_to(root / name)
    annotations = read_interactions(root / TRAIN)
    detections = find_detections(annotations, replace(DATA, detections=None), root)
    whole = rows_of(annotations.moments, detections, root / TRAIN, tmp_path)
    assert {Path(row["file"]).parent.name for row in whole} == {"full_scale"} and whole[0]["frame"] == 8
    write_frames(tmp_path / "clip-0.mp4", [draw(0, [(0, 0), (0, 36)], frame) for frame in range(2, 20)])
    clips = rows_of(annotations.moments, detections, root / TRAIN, tmp_path)
    assert [(Path(row["file"]).name, row["frame"]) for row in clips[2:4]] == [("clip-0.mp4", 14), ("video-1.mp4", 8)]


def test_missing_footage_is_refused_or_left_out(root, tmp_path, caplog):
    (tmp_path / "annotations").symlink_to(root / "annotations")
    (tmp_path / "object_detections.json").symlink_to(root / "object_detections.json")
    with pytest.raises(ManifestError, match="6 of 6 moments have no footage"):
        read_training_rows(tmp_path / TRAIN, tmp_path, interactions=DATA, skip_missing=True)
    (tmp_path / "video-1.mp4").symlink_to(root / "full_scale/video-1.mp4")
    with pytest.raises(ManifestError, match="3 of 6 moments have no footage.*data.missing=skip"):
        read_training_rows(tmp_path / TRAIN, tmp_path, interactions=DATA)
    assert len(read_training_rows(tmp_path / TRAIN, tmp_path, interactions=DATA, skip_missing=True)[0]) == 3


def test_lists_that_do_not_fit_are_refused(root, tmp_path):
    with pytest.raises(ManifestError, match="some moments are not annotated"):
        read_training_rows(root / "annotations/fho_sta_test_unannotated.json", root, interactions=DATA)
    with pytest.raises(ManifestError, match="it has 2 verbs, and the training list has 1"):
        read_training_rows(root / VAL, root, interactions=DATA, classes=["take", NO_VERB])
    with pytest.raises(RecipeError, match="data.labels changes nothing"):
        read_training_rows(root / TRAIN, root, interactions=DATA, labels=3)
    (tmp_path / "few.json").write_text(json.dumps({}))
    with pytest.raises(ManifestError, match="6 of 6 moments are missing, such as video-0_0000008"):
        find_detections(read_interactions(root / TRAIN), replace(DATA, detections=str(tmp_path / "few.json")), root)
    document = json.loads((root / TRAIN).read_text())
    del document["verb_categories"]
    (tmp_path / "nameless.json").write_text(json.dumps(document))
    assert verbs_of(read_interactions(tmp_path / "nameless.json")) == ["verb 0", "verb 1", NO_VERB]


def test_processors_and_crops_that_lose_objects_are_refused():
    with pytest.raises(RecipeError, match="do_center_crop=false"):
        rule_of(do_center_crop=True)
    with pytest.raises(RecipeError, match="short side"):
        rule_of(size={"height": 32, "width": 32})
    with pytest.raises(RecipeError, match="crop_size is 33, expected 1 to 32"):
        rule_of(replace(DATA, crop_size=33)).check_training()
    rule_of(replace(DATA, crop_size=None)).check_training()


def test_clips_of_an_evaluation_are_those_of_the_data_set_and_what_cannot_be_read_is_named(root):
    table = rows(root)
    table[4] = {**table[4], "frame": 99}
    dataset = MomentDataset([row for row in table if row["frame"] < 20], rule_of(), training=False)
    found = []
    for file in dict.fromkeys(row["file"] for row in table):
        found += read_moments([row for row in table if row["file"] == file], rule_of())
    short = [one for one in found if not isinstance(one, dict)]
    assert len(short) == 1 and "it has 20 frames, and the moment is frame 99" in str(short[0])
    for one, other in zip([one for one in found if isinstance(one, dict)], dataset, strict=True):
        for name in ("pixel_values_videos", "boxes"):
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-6)


def test_unreadable_moments_of_training_are_logged(root, tmp_path):
    broken = [{**row, "file": str(tmp_path / "none.mp4")} for row in rows(root)[:1]]
    with pytest.raises(VideoDecodeError):
        MomentDataset(broken, rule_of(), training=True)[0]
    log = FailureLog(tmp_path / "failures.jsonl")
    assert set(MomentDataset(broken, rule_of(), training=True, failures=log)[0]) == {"failure"}


def test_batches_have_a_mask_of_numbers_and_labels_where_there_are_boxes(root):
    dataset = MomentDataset(rows(root), rule_of(), training=False)
    one = dataset[1]
    one |= {key: one[key][:1] for key in ("boxes", "verb_labels", "time_labels")}
    batch = collate([dataset[0], one], multiple=8)
    assert batch["box_mask"].tolist() == [[1, 1], [1, 0]] and batch["box_mask"].dtype == torch.int64
    assert batch["verb_labels"].tolist() == [[0, -100], [0, -100]] and batch["time_labels"][1, 1].isnan()
