"""Adapters of VideoMAE's masks, training and test pixels, repeated sampling, and merging of test scores."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, repeat
from torch.nn.functional import cross_entropy

from internvideo_hf.inference.merging import top_k_accuracies
from internvideo_hf.video.augment import (
    collate_views,
    finetuning_view,
    normalize,
    pretraining_view,
    repeated_views,
)
from internvideo_hf.video.masking import MASKS
from internvideo_hf.video.mixup import mix_batch
from internvideo_hf.video.randomness import Randomness
from internvideo_hf.video.transforms import crop, resize_short_side
from parity.compare import Comparison, load_config, load_tensors
from parity.score_merging import merge_views, read_views

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
TUBELET_SIZE = 2

MASKS_OF_CLASSES = {
    "TemporalConsistencyMaskingGenerator": "tube",
    "RandomMaskingGenerator": "random",
    "TemporalProgressiveMaskingGenerator": "progressive",
    "TemporalCenteringProgressiveMaskingGenerator": "center_progressive",
    "CellRunningMaskingGenerator": "running_cell",
    "RandomDecodeMaskingGenerator": "random_decode",
}

exact = {"atol": 0, "rtol": 0}


# ---- masks ----------------------------------------------------------------------------------------------------------


def videomae_masks(folder: Path, tmp_path: Path) -> None:
    comparison = Comparison(load_tensors(folder))
    for entry in load_config(folder)["entries"]:
        key, rule = entry["key"], MASKS[MASKS_OF_CLASSES[entry["generator"]]]
        draw = partial(
            rule,
            tuple(entry["input_size"]),
            entry["mask_ratio"],
            generator=np.random.RandomState(entry["numpy_seed"]),
        )
        masks = np.stack([draw() for _ in comparison.stored[key]])
        assert masks.sum(1).tolist() == entry["num_masked_per_sample"], key
        comparison.close(key, torch.from_numpy(masks), **exact)
    comparison.finish()


# ---- pixels ---------------------------------------------------------------------------------------------------------


def videomae_preprocessing(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    comparison = Comparison(stored, inputs=("frames_uint8",))
    frames = rearrange(stored["frames_uint8"], "t h w c -> t c h w")
    _compare_evaluation(frames, config, comparison)
    for seed in config.get("pretrain_seeds", ()):
        randomness = Randomness.seeded(seed)
        view = pretraining_view(frames, config["crop"], **IMAGENET, randomness=randomness)
        comparison.close(f"pretrain_seed{seed}", _channels_first(view), **exact)
        name = f"pretrain_mask_seed{seed}"
        if name in stored:
            comparison.close(name, _tube_like(stored[name], len(frames), randomness), **exact)
    for run in config.get("finetune", ()):
        view = finetuning_view(
            frames,
            config["crop"],
            **IMAGENET,
            flip_probability=0 if run["data_set"] == "SSV2" else 0.5,
            erasing_probability=run["reprob"],
            randomness=Randomness.seeded(run["seed"]),
        )
        comparison.close(f"finetune_seed{run['seed']}", _channels_first(view), **exact)
    comparison.finish()


def _channels_first(frames: torch.Tensor) -> torch.Tensor:
    return rearrange(frames, "t c h w -> c t h w")


def _compare_evaluation(frames: torch.Tensor, config: dict, comparison: Comparison) -> None:
    side = config["short_side"]
    resized = resize_short_side(frames, side, method="cv2_linear")
    comparison.close("resized_uint8", rearrange(resized, "t c h w -> t h w c"), **exact)
    central = normalize(crop(resized, config["crop"]), **IMAGENET)
    comparison.close("validation", _channels_first(central), **exact)
    names = [name for name in comparison.stored if name.startswith("test_crop")]
    for position in range(len(names)):
        view = normalize(crop(resized, side, position, len(names), rounding="floor"), **IMAGENET)
        comparison.close(f"test_crop{position}", _channels_first(view), **exact)


def _tube_like(stored: torch.Tensor, num_frames: int, randomness: Randomness) -> torch.Tensor:
    """Return a tube mask of the stored one's size and ratio, which the configuration does not hold."""
    steps = num_frames // TUBELET_SIZE
    places = len(stored) // steps
    # Half a token more, or the product with the ratio could fall short of the whole number.
    ratio = (int(stored.sum()) / steps + 0.5) / places
    return torch.from_numpy(MASKS["tube"]((steps, 1, places), ratio, generator=randomness.numpy))


# ---- repeated sampling ----------------------------------------------------------------------------------------------


def videomae_repeated_sampling(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    comparison = Comparison(stored, inputs=("x",))
    num_views = config["num_sample"]
    # Each video has one label and number; the views and their masks are the stored ones.
    labels, numbers = stored["labels"][::num_views], stored["video_idx"][::num_views]
    masks = rearrange(stored["pre_mask"], "(b r) n -> b r n", r=num_views)
    videos = [
        [
            {"pixels": view, "label": int(label), "video": int(number), "mask": mask}
            for view, mask in zip(repeated_views(views[0], num_views, _replay(views)), video_masks, strict=True)
        ]
        for views, label, number, video_masks in zip(stored["x"], labels, numbers, masks, strict=True)
    ]
    assert len(videos) == config["batch"]
    batch = collate_views(videos)
    for name, field in {
        "collated": "pixels",
        "pre_collated": "pixels",
        "pre_mask": "mask",
        "labels": "label",
        "video_idx": "video",
    }.items():
        comparison.close(name, batch[field], **exact)
    rows = repeat(torch.arange(config["batch"]), "b -> (b r)", r=num_views)
    assert torch.equal(batch["label"], labels[rows])
    comparison.finish()


def _replay(views: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    remaining = iter(views)
    return lambda frames: next(remaining)


# ---- mixup and cutmix -----------------------------------------------------------------------------------------------


def videomae_mixup(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    assert config["mode"] == "batch"
    given = ("x", "labels", "logits")
    comparison = Comparison(stored, inputs=tuple(name for name in stored if name.rpartition(".")[2] in given))
    for entry in config["entries"]:
        key = entry["key"]
        clips = rearrange(stored[f"{key}.x"], "b c t h w -> b t c h w")
        mixed, targets = mix_batch(
            clips,
            stored[f"{key}.labels"],
            config["num_classes"],
            mixup_alpha=entry["mixup_alpha"],
            cutmix_alpha=entry["cutmix_alpha"],
            probability=config["prob"],
            switch_probability=config["switch_prob"],
            smoothing=config["label_smoothing"],
            generator=np.random.RandomState(entry["numpy_seed"]),
        )
        comparison.close(f"{key}.mixed", rearrange(mixed, "b t c h w -> b c t h w"), **exact)
        comparison.close(f"{key}.targets", targets)
        comparison.close(f"{key}.loss", cross_entropy(stored[f"{key}.logits"], targets))
    comparison.finish()


# ---- test scores ----------------------------------------------------------------------------------------------------


def videomae_score_merging(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    views = read_views(folder, config["num_tasks"])
    comparison = Comparison(stored)
    _compare_views(views, config, comparison)
    protocols = {
        "prob": ([views], "prob"),
        "score": ([views], "score"),
        "ensemble_two_dirs_softmax": ([views, views], "prob"),
        "ensemble_score": ([views, views], "score"),
    }
    for name, percent in config["results_top1_top5_percent"].items():
        members, method = protocols[name]
        merged = merge_views(*members, method=method)
        accuracies = top_k_accuracies(merged.scores, merged.labels)
        np.testing.assert_allclose(list(accuracies.values()), percent, rtol=1e-14, err_msg=name)
        order = [merged.videos.index(f"vid{number}") for number in range(config["num_videos"])]
        comparison.close("labels", torch.from_numpy(merged.labels[order]), **exact)
        comparison.close(f"mean_{method}", torch.from_numpy(merged.scores[order]), **exact)
    comparison.finish()


def _compare_views(views: list, config: dict, comparison: Comparison) -> None:
    """Return the logits of every file line, at the place that the line names."""
    logits = torch.full(tuple(config[name] for name in ("num_videos", "segments", "crops", "classes")), torch.nan)
    for view in reversed(views):
        number = int(view.video.removeprefix("vid"))
        logits[number, view.segment, view.crop] = torch.from_numpy(view.logits)
    comparison.close("scores", logits, **exact)
