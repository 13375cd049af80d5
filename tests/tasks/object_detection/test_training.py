"""Detectors of transformers train on drawn frames: inputs, learning rates, the saved model and its scores."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tasks.action_detection.small import write_detector, write_rt_detr
from tasks.object_detection.state_changes import HEIGHT, WIDTH, write_drawn, write_scod
from transformers import AutoImageProcessor, AutoModelForObjectDetection, DetrImageProcessor

from internvideo_hf.data.failures import FailureLog
from internvideo_hf.data.records import ManifestError
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.object_detection.annotations import Frame
from internvideo_hf.tasks.object_detection.training import (
    FrameDataset,
    TrainedDetector,
    collate,
    load_detector,
    objects_of,
    read_training_rows,
)
from internvideo_hf.tasks.protocol import FrameData
from internvideo_hf.training.parameter_groups import parameter_groups
from internvideo_hf.training.recipes import ModelSettings, load_recipe
from internvideo_hf.training.run import train
from internvideo_hf.video.errors import VideoDecodeError

NAME = "ego4d/state_change_detection"
SETTINGS = ModelSettings("transformers", "object_detection")
FRAME = Frame(4, "a.png", file="a.png", width=200, height=100, boxes=((20.0, 10.0, 40.0, 50.0),))


@pytest.fixture(scope="module")
def detectors(tmp_path_factory):
    root = tmp_path_factory.mktemp("detectors")
    write_detector(root / "yolos")
    write_rt_detr(root / "rt_detr")
    return root


def test_objects_are_at_least_a_pixel_and_cut_to_the_frame():
    boxes = ((-5.0, 90.0, 10.0, 30.0), (10, 10, 0.5, 9), (300, 0, 9, 9), (1, 2, 3, 4))
    assert objects_of(Frame(1, "v", width=200, height=100, boxes=boxes)) == [(0, 90, 5, 10), (1, 2, 3, 4)]
    assert objects_of(Frame(1, "v", boxes=((300.0, 0.0, 9.0, 9.0),))) == [(300, 0, 9, 9)]
    assert objects_of(Frame(1, "v")) == []


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_boxes_follow_mirrored_and_resized_frames(tmp_path, flip):
    # The image has half the size that was annotated.
    pixels = np.zeros((50, 100, 3), np.uint8)
    pixels[5:30, 10:30] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    processor = DetrImageProcessor(size={"shortest_edge": 50, "longest_edge": 100}, do_normalize=False)
    data = FrameData(shortest_edge=[25, 40], longest_edge=2000, flip=flip)
    samples = FrameDataset([FRAME], tmp_path, processor, data, training=True)
    sizes = set()
    for epoch in range(8):
        samples.set_epoch(epoch)
        sample = samples[0]
        _, height, width = sample["pixel_values"].shape
        sizes.add(height)
        assert 25 <= height <= 40 and abs(width - 2 * height) <= 1
        center = 0.2 if not flip else 0.8
        torch.testing.assert_close(sample["labels"]["boxes"], torch.tensor([[center, 0.35, 0.2, 0.5]]))
        column = round(center * width)
        assert sample["pixel_values"][:, round(0.35 * height), column].min() > 0.9  # the object is there
        assert sample["labels"]["class_labels"].tolist() == [0] and sample["video_ids"] == 0
    assert len(sizes) > 3
    again = samples[0]["pixel_values"]
    assert torch.equal(again, samples[0]["pixel_values"])
    plain = FrameDataset([FRAME], tmp_path, processor, data, training=False)[0]
    assert plain["pixel_values"].shape == (3, 50, 100)


def test_a_batch_is_filled_up_and_says_where(tmp_path):
    labels = {"class_labels": torch.zeros(1, dtype=torch.int64), "boxes": torch.full((1, 4), 0.5)}
    one = {"pixel_values": torch.ones(3, 20, 30), "labels": labels, "videos": "a", "video_ids": 5}
    other = {**one, "pixel_values": torch.ones(3, 10, 40), "video_ids": 7}
    batch = collate([one, other])
    assert batch["pixel_values"].shape == (2, 3, 32, 64) and batch["pixel_mask"].sum(dim=(1, 2)).tolist() == [600, 400]
    assert batch["pixel_values"].sum(dim=(1, 2, 3)).tolist() == [1800, 1200]
    assert batch["labels"] == [labels, labels] and batch["video_ids"].tolist() == [5, 7]
    assert collate([one, one])["pixel_values"].shape == (2, 3, 20, 30)
    failed = {"failure": "gone", "video_ids": 9}
    assert collate([failed, one])["video_ids"].tolist() == [5]
    filled = collate([failed, one], fill_gaps=True)
    assert filled["video_ids"].tolist() == [9, 5] and len(filled["labels"][0]["boxes"]) == 0
    with pytest.raises(VideoDecodeError, match="none of its frames"):
        collate([failed])


def test_a_frame_that_cannot_be_read_is_logged(tmp_path):
    log = FailureLog(tmp_path / "failures.jsonl")
    samples = FrameDataset([FRAME], tmp_path, None, FrameData(), training=True, failures=log)
    assert "there is no" in samples[0]["failure"] and len(log) == 1
    with pytest.raises(VideoDecodeError, match="there is no"):
        FrameDataset([FRAME], tmp_path, None, FrameData(), training=True)[0]


def test_training_frames_have_objects_and_the_others_stay_for_validation(tmp_path):
    clips = write_drawn(tmp_path, 1)
    clips[0]["pre_frame"]["bbox"] = []
    path = write_scod(tmp_path / "a.json", clips)
    rows, classes = read_training_rows(path, tmp_path, frames=FrameData())
    assert (rows["moment"][:], classes) == (["pnr_frame", "post_frame"], ["object_of_change"])
    assert len(read_training_rows(path, tmp_path, frames=FrameData(), classes=classes)[0]) == 3
    with pytest.raises(ManifestError, match="has an object of the type cup"):
        read_training_rows(path, tmp_path, frames=FrameData(object_type="cup"))
    with pytest.raises(RecipeError, match="data.labels and data.layout"):
        read_training_rows(path, tmp_path, frames=FrameData(), labels=3)


@pytest.mark.parametrize("name", ["yolos", "rt_detr"])
def test_the_classifier_is_new_and_the_backbone_learns_a_tenth_as_fast(detectors, name):
    model, processor = load_detector(SETTINGS, ["object_of_change"], str(detectors / name))
    assert model.config.id2label == {0: "object_of_change"}
    trained = TrainedDetector(model, processor)
    groups = parameter_groups(trained, 1e-5, 1e-4, rule="all", head_scale=10)
    rates = {parameter: group["lr"] for group in groups for parameter in group["names"]}
    assert {group["weight_decay"] for group in groups} == {1e-4}
    slow = {parameter for parameter, rate in rates.items() if rate == pytest.approx(1e-5)}
    assert {rate for parameter, rate in rates.items() if parameter not in slow} == {1e-4}
    parts = ("backbone", "vit", "sampling_offsets", "reference_points")
    assert slow == {parameter for parameter in rates if any(part in parameter.split(".") for part in parts)} and slow
    assert set(rates) == {parameter for parameter, value in trained.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("name", ["yolos", "rt_detr"])
def test_the_loss_is_the_detectors_own(detectors, name):
    model, processor = load_detector(SETTINGS, ["object_of_change"], str(detectors / name))
    trained, pixels = TrainedDetector(model, processor).train(), torch.rand(2, 3, 64, 64)
    labels = [{"class_labels": torch.tensor([0]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2]])}] * 2
    torch.manual_seed(0)
    ours = trained(pixels, torch.ones(2, 64, 64, dtype=torch.int64), labels)
    torch.manual_seed(0)
    torch.testing.assert_close(ours["loss"], model.train()(pixel_values=pixels, labels=labels).loss)
    assert "detections" not in ours and any(key.endswith("_loss") for key in ours)
    answer = trained.eval()(pixels, None if name == "yolos" else torch.ones(2, 64, 64, dtype=torch.int64), labels)
    assert answer["detections"].shape == (2, 100, 6)


def test_settings_that_no_detector_has_are_refused(detectors):
    for changes, message in (
        ({"config": {"dropuot": 1}}, "model.config.dropuot"),
        ({"processor": {"sampler": "x"}}, "model.processor.sampler"),
        ({"size": "base"}, "model.size changes nothing"),
    ):
        with pytest.raises(RecipeError, match=message):
            load_detector(
                ModelSettings("transformers", "object_detection", **changes), ["a"], str(detectors / "yolos")
            )
    with pytest.raises(RecipeError, match="expected transformers for the task object_detection"):
        load_recipe(NAME, ["model.family=actionformer"])
    with pytest.raises(RecipeError, match="expected a family of this package"):
        load_recipe("temporal_localization/custom", ["model.family=transformers"])


SHORT = [
    "data.frames.folder=frames",
    "data.frames.shortest_edge=null",
    "batch_size=4",
    "training.per_device_train_batch_size=4",
    "training.warmup_steps=1",
    "training.ema_decay=0.5",
    "training.dataloader_num_workers=0",
]


def _data(root, clips):
    write_scod(root / "annotations/fho_scod_train.json", write_drawn(root, clips), "train")
    write_scod(root / "annotations/fho_scod_val.json", write_drawn(root, 2, seed=1000), "val")
    return root


def test_a_start_must_be_given_and_fit_the_frames(detectors, tmp_path):
    root = _data(tmp_path, 1)
    for start in (None, "random"):
        with pytest.raises(RecipeError, match=r"Give its folder, or its name on the Hub, by --start-from"):
            train(load_recipe(NAME, SHORT), root, root / "run", start=start, quiet=True)
    changes = [*SHORT, "data.frames.shortest_edge=[40, 60]", "data.validation=null"]
    with pytest.raises(RecipeError, match="takes frames of one size"):
        train(load_recipe(NAME, changes), root, root / "run", start=detectors / "rt_detr", quiet=True)


def test_validation_frames_have_a_size(detectors, tmp_path):
    root = _data(tmp_path, 1)
    path = root / "annotations/fho_scod_val.json"
    content = json.loads(path.read_text())
    del content["clips"][1]["pnr_frame"]["width"]
    path.write_text(json.dumps(content))
    with pytest.raises(RecipeError, match=r"data\.validation: video001, frame 10 has no width and height"):
        train(load_recipe(NAME, SHORT), root, root / "run", start=detectors / "yolos", quiet=True)


@pytest.mark.parametrize("name", ["yolos", "rt_detr"])
def test_a_trained_detector_is_one_of_transformers(detectors, tmp_path, name):
    root = _data(tmp_path, 3)
    changes = [*SHORT, "training.num_train_epochs=2", "data.validation=null"]
    final = train(load_recipe(NAME, changes), root, root / "run", start=detectors / name, quiet=True)
    model, info = AutoModelForObjectDetection.from_pretrained(final, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert model.config.id2label == {0: "object_of_change"}
    start = AutoModelForObjectDetection.from_pretrained(detectors / name).state_dict()
    moved = [
        key
        for key, value in model.state_dict().items()
        if value.shape == start[key].shape and value.is_floating_point()
    ]
    assert sum(not torch.equal(model.state_dict()[key], start[key]) for key in moved) > len(moved) // 2
    assert AutoImageProcessor.from_pretrained(final).size == AutoImageProcessor.from_pretrained(detectors / name).size
    assert "9 frames of the list `fho_scod_train.json`" in (final / "README.md").read_text()
    logged = [json.loads(line) for line in (root / "run/log.jsonl").read_text().splitlines()]
    assert any(key.endswith("_loss") for line in logged for key in line)


@pytest.mark.parametrize("name", ["yolos", "rt_detr"])
def test_a_stopped_training_ends_with_the_same_weights(detectors, tmp_path, name):
    root = _data(tmp_path, 2)
    changes = [*SHORT, "training.num_train_epochs=2", "data.validation=null", "training.save_total_limit=5"]
    recipe, ends = load_recipe(NAME, changes), []
    train(recipe, root, root / "whole", start=detectors / name, quiet=True)
    left_out = shutil.ignore_patterns("final", "checkpoint-4")
    shutil.copytree(root / "whole", root / "resumed", ignore=left_out)
    assert [path.name for path in (root / "resumed").glob("checkpoint-*")] == ["checkpoint-2"]
    for run in ("whole", "resumed"):
        final = train(recipe, root, root / run, start=detectors / name, quiet=True)
        ends.append(load_file(final / "model.safetensors"))
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.slow
def test_a_detector_learns_where_the_object_is(tmp_path):
    """A small RT-DETR finds red boxes on drawn frames that it has not seen."""
    pytest.importorskip("pycocotools", reason="the extra [detection] is not installed")
    root = _data(tmp_path, 40)
    start = write_rt_detr(root / "start")
    changes = [*SHORT, "training.num_train_epochs=20", "training.learning_rate=1e-3", "training.ema_decay=0.9"]
    changes += [
        "training.head_scale=1",
        "training.max_grad_norm=1.0",
        "batch_size=8",
        "training.per_device_train_batch_size=8",
    ]
    final = train(load_recipe(NAME, changes), root, root / "run", start=start, quiet=True)
    logged = [json.loads(line) for line in (root / "run/log.jsonl").read_text().splitlines()]
    scores = [line["eval_AP"] for line in logged if "eval_AP" in line]
    result = evaluate(
        load_protocol(NAME, ["data.frames.folder=frames"]), final, root, device="cpu", workers=0, quiet=True
    )
    assert result["scores"]["AP"] == pytest.approx(scores[-1], abs=0.5)
    assert scores[-1] > max(10, scores[0]), scores
    assert (root / "run/answers/detections.json").is_file() and WIDTH > HEIGHT
