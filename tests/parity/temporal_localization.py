"""Adapters of the kinds of temporal localization."""

import json
import random
import re
from pathlib import Path

import numpy as np
import torch

from internvideo_hf.data.features import FeatureFolder, FeatureSettings
from internvideo_hf.tasks.temporal_localization.annotations import read_annotations, read_class_scores
from internvideo_hf.tasks.temporal_localization.data import (
    Cropping,
    FeatureDataset,
    Sample,
    crop,
)
from internvideo_hf.tasks.temporal_localization.decoding import (
    Detections,
    Fusion,
    Suppression,
    fuse_class_scores,
    suppress,
)
from internvideo_hf.tasks.temporal_localization.metrics import SegmentTable, average_precisions
from parity.compare import Comparison, load_config, load_tensors

# What the stored tensors of a variant end in -> our name.
PARTS = {"segs": "segments", "scores": "scores", "labels": "labels"}
# Number of a decay in the original's soft suppression -> our name.
DECAYS = {"0": "removal", "1": "linear", "2": "gaussian"}


def tal_nms(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    compare = Comparison(stored, inputs=tuple(PARTS))
    labels = stored.get("labels", torch.zeros(len(stored["scores"]), dtype=torch.long))  # one class has none
    candidates = Detections(stored["segs"], stored["scores"], labels)

    def check(name: str, settings: Suppression) -> None:
        found = suppress(candidates, settings)
        for part, ours in PARTS.items():
            compare.close(f"{name}.{part}", getattr(found, ours))

    variants = {name: _suppression(variant) for name, variant in config.get("variants", {}).items()}
    for name, settings in variants.items():
        check(name, settings)
    for name in {name.rpartition(".")[0] for name in stored}:
        if match := re.fullmatch(r"softop_method(\d)\w*", name):
            check(name, _suppression({**config.get("softop", {}), "multiclass": False}, DECAYS[match[1]]))
    if any(name.startswith("no_voting.") for name in stored):
        _without_voting(stored, candidates, config["variants"], compare)
    compare.finish()


def _suppression(variant: dict, decay: str = "gaussian") -> Suppression:
    limit = variant.get("max_seg_num", variant.get("max_num", -1))
    return Suppression(
        decay if variant.get("use_soft_nms", True) else "hard",
        variant.get("multiclass", False),
        sigma=variant.get("sigma", 0.5),  # what a method does not use need not be there
        iou_threshold=variant.get("iou_threshold", 0.1),
        min_score=variant.get("min_score", 0.001),
        max_segments=limit if limit > 0 else None,
        voting_threshold=variant.get("voting_thresh", 0.0),
    )


def _without_voting(stored: dict, candidates: Detections, variants: dict, compare: Comparison) -> None:
    """Compare the segments before the vote: of one of the variants that vote, the case does not say of which."""
    voting = [
        variant
        for variant in variants.values()
        if not variant.get("multiclass", False) and variant.get("voting_thresh", 0) > 0
    ]
    failures = []
    for variant in voting:
        found = suppress(candidates, _suppression({**variant, "voting_thresh": 0.0}))
        try:
            for part, ours in PARTS.items():
                compare.close(f"no_voting.{part}", getattr(found, ours))
            return
        except AssertionError as error:
            failures.append(str(error))
    raise AssertionError("\n".join(failures))


def tal_map(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    compare = Comparison(stored)
    annotations = read_annotations(folder / "gt.json")
    truth = annotations.ground_truth(config["split"])
    columns = json.loads((folder / "predictions.json").read_text())

    def evaluate(predictions: SegmentTable, prefix: str) -> None:
        found = average_precisions(predictions, truth, config["tiou_thresholds"], as_published=True)
        compare.close(f"{prefix}ap", torch.from_numpy(found))
        compare.close(f"{prefix}mAP", torch.from_numpy(found.mean(axis=1)))
        compare.close(f"{prefix}average_mAP", torch.tensor(found.mean()))

    evaluate(_table(columns), "")
    if "activity_index" in config:
        labels = np.unique(truth.labels).tolist()
        assert {int(label): index for label, index in config["activity_index"].items()} == {
            label: index for index, label in enumerate(labels)
        }
    failures = []
    for path in sorted(folder.glob("fused*.json")):
        expected, fused = json.loads(path.read_text()), _fused(columns, folder, path.stem)
        assert expected["video-id"] == fused.videos.tolist()
        assert expected["label"] == fused.labels.tolist()
        np.testing.assert_allclose(fused.segments.T, [expected["t-start"], expected["t-end"]], atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(fused.scores, expected["score"], atol=1e-5, rtol=1e-5)
        try:  # one of the files was evaluated; the case does not say which
            evaluate(fused, "fused_")
        except AssertionError as error:
            failures.append(str(error))
    assert not any(name.startswith("fused_") for name in compare.open), failures
    compare.finish()


def _table(columns: dict[str, list]) -> SegmentTable:
    segments = np.stack([columns["t-start"], columns["t-end"]], axis=1)
    return SegmentTable(columns["video-id"], segments, columns["label"], columns["score"])


def _fused(columns: dict[str, list], folder: Path, name: str) -> SegmentTable:
    """Give the predictions the classes of the external scores, as the name of a stored table says."""
    classes, most = (re.search(pattern, name) for pattern in (r"top(\d+)", r"numpred(\d+)"))
    settings = Fusion(int(classes[1]) if classes else 2, int(most[1]) if most else 200)
    scores, table = read_class_scores(folder / "external_cls_scores.json"), _table(columns)
    videos, found = [], []
    for video in sorted(set(columns["video-id"])):
        rows = np.flatnonzero(table.videos == video)
        own = Detections(*(torch.from_numpy(column[rows]) for column in (table.segments, table.scores, table.labels)))
        found.append(fuse_class_scores(own, scores[video], settings))
        videos += [video] * len(found[-1].scores)
    return SegmentTable(videos, *(torch.cat(parts).numpy() for parts in _parts(found)))


def _parts(found: list[Detections]) -> list[list[torch.Tensor]]:
    return [[one.segments for one in found], [one.labels for one in found], [one.scores for one in found]]


def tal_dataset_items(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    inputs = tuple(name for name in stored if name.endswith((".mae_TC", ".reference_len")))
    compare = Comparison(stored, inputs=inputs)
    _write_features(stored, inputs, tmp_path)
    annotations = read_annotations(folder / "annotations.json")

    def sample_of(item: str) -> Sample:
        kind, video = item.split(".", 1)
        return _data_set(annotations.videos, config, kind, tmp_path).load(video)

    facts_of = config.get("items", {})
    stored_items = {match[1] for name in stored if (match := re.fullmatch(r"(\w+_(?:eval|train)\..+)\.\w+", name))}
    for item in sorted({*facts_of, *stored_items}):
        sample, facts = sample_of(item), facts_of.get(item, {})
        _compare_sample(compare, item, sample)
        for name, value in (
            ("fps", sample.grid.fps),
            ("duration", sample.duration),
            ("feat_stride", sample.grid.stride),
            ("feat_num_frames", sample.grid.num_frames),
        ):
            np.testing.assert_allclose(value, facts.get(name, value), rtol=1e-9, err_msg=f"{item}.{name}")
    for name in {name.rpartition(".")[0] for name in stored if re.match(r"(truncate|crop)\.", name)}:
        section, _, seed = name.rpartition(".")
        settings = config[section]
        video, _, kind = settings["video"].partition(" of ")
        ratio = settings.get("crop_ratio", config.get("truncate", {}).get("crop_ratio", Cropping(1).ratio))
        rule = Cropping(settings["max_seq_len"], settings["trunc_thresh"], None if ratio is None else tuple(ratio))
        sample = sample_of(f"{kind}.{video}")
        _compare_sample(compare, name, crop(sample, rule, random.Random(int(seed.removeprefix("seed")))))
    compare.finish()


def _write_features(stored: dict[str, torch.Tensor], inputs: tuple[str, ...], folder: Path) -> None:
    for name in inputs:
        video, _, kind = name.rpartition(".")
        rows = stored[name].numpy() if kind == "mae_TC" else np.zeros((int(stored[name]), 1), np.float32)
        (folder / kind).mkdir(exist_ok=True)
        np.save(folder / kind / f"{video}.npy", rows)


def _data_set(videos: dict, config: dict, kind: str, folder: Path) -> FeatureDataset:
    """Return the videos as a data set class of the original takes them, such as "thumos_eval" or "anet_train"."""
    name, _, mode = kind.partition("_")
    section = config[name]
    stride = section["feat_stride"] if section["feat_stride"] > 0 else None
    fps = section.get("default_fps", section.get("fps"))
    reference = folder / "reference_len"
    return FeatureDataset(
        videos,
        FeatureFolder(folder / "mae_TC"),
        FeatureSettings(
            stride,
            section.get("num_frames", 16),
            fps if isinstance(fps, int | float) else None,
            fixed_length=section["max_seq_len"] if section.get("force_upsampling") else None,
        ),
        reference=FeatureFolder(reference) if reference.exists() else None,
        tidy=mode == "train" and name != "thumos",
        # The original's class of ActivityNet knows one class; that of THUMOS-14 all of its own.
        class_agnostic=section.get("num_classes", 20 if name == "thumos" else 1) == 1,
    )


def _compare_sample(compare: Comparison, name: str, sample: Sample) -> None:
    compare.close(f"{name}.feats_CT", sample.features.T)
    compare.close(f"{name}.segments_grid", sample.segments)
    compare.close(f"{name}.labels", sample.labels)
