"""From a recipe's lists of videos to what the Trainer reads."""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import distributed
from torch.utils.data import Dataset, IterableDataset
from transformers import CLIPTokenizer

from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.failures import FailureLog
from internvideo_hf.data.hard_negatives import HardNegativeBatchSampler
from internvideo_hf.data.manifests import load_manifest
from internvideo_hf.data.samples import VIEWS, SampleSettings
from internvideo_hf.data.shards import ShardDataset
from internvideo_hf.inference.embedder import embed_texts
from internvideo_hf.processing.fused_video_processing import InternVideoFusedVideoProcessor
from internvideo_hf.processing.processing import InternVideoProcessor, clean_text
from internvideo_hf.processing.tokenizer import build_clip_tokenizer
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.recipes.captions import clean_caption
from internvideo_hf.recipes.labels import LABEL_SETS, load_labels
from internvideo_hf.training.recipes import ClipSettings, Recipe, RecipeError, training_task
from internvideo_hf.utils.names import lookup

VideoProcessor = InternVideoVideoProcessor | InternVideoFusedVideoProcessor
Processor = InternVideoProcessor | VideoProcessor


def video_processor_of(processor: Processor) -> VideoProcessor:
    """The part of a processor that makes pixels."""
    return getattr(processor, "video_processor", processor)


def sample_settings(
    recipe: Recipe, processor: Processor, training: bool
) -> SampleSettings | dict[str, SampleSettings]:
    """How a row becomes a sample: for training as the recipe says, for validation as the processor does.

    Size, statistics and colour order of the pixels are the processor's in both. For a model of two inputs, by name.
    """
    first, *others = video_processor_of(processor).branches.items()
    own = _settings_of(first[1], recipe.data.clip, training)
    if not others:
        return own
    ((name, uniformerv2),) = others
    clip = replace(recipe.data.clip, **recipe.data.clip.uniformerv2)
    return {first[0]: own, name: _settings_of(uniformerv2, clip, training)}


def _settings_of(videos: InternVideoVideoProcessor, clip: ClipSettings, training: bool) -> SampleSettings:
    if not training:
        return SampleSettings(
            num_frames=videos.num_frames,
            sampler=videos.sampler,
            sampler_options=dict(videos.sampler_kwargs),
            view="processor",
            view_options={"processor": videos},
            mask=clip.mask,
        )
    size = (videos.crop_size if videos.do_center_crop else videos.size) or videos.size
    known = {
        "size": size["height"] if "height" in size else size["shortest_edge"],
        "mean": list(videos.image_mean),
        "std": list(videos.image_std),
        "processor": videos,
    }
    taken = inspect.signature(lookup(VIEWS, clip.view, "data.clip.view")).parameters
    return SampleSettings(
        num_frames=videos.num_frames,
        sampler=clip.sampler,
        sampler_options=clip.sampler_options,
        view=clip.view,
        view_options={name: value for name, value in known.items() if name in taken} | clip.view_options,
        num_views=clip.num_views,
        mask=clip.mask,
        # A processor turns the colours itself.
        channel_order="rgb" if clip.view == "processor" else videos.channel_order,
    )


def class_names(recipe: Recipe, data_root: Path) -> list[str] | int | None:
    """Names of the classes that a recipe's labels are, or how many there are.

    Where the recipe does not say, the list of videos for training does: one more than its largest label.

    Raises:
        RecipeError: if they cannot be found.
    """
    labels = recipe.data.labels
    if recipe.model.task != "classification" or isinstance(labels, int):
        return labels if isinstance(labels, int) else None
    if labels in LABEL_SETS:
        return load_labels(labels)
    if labels is not None:
        try:
            lines = (data_root / labels).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(
                f"data.labels is {labels!r}: no set of that name ({', '.join(LABEL_SETS)}), and as a file it cannot "
                f"be read ({error})."
            ) from error
        return [line.strip() for line in lines if line.strip()]
    if (data_root / recipe.data.train).is_dir():
        raise RecipeError(
            f"{recipe.data.train} holds shards, which do not tell how many classes there are: set data.labels."
        )
    rows = load_manifest(data_root / recipe.data.train, data_root, layout=recipe.data.layout, check_files=False)
    found = [label for label in rows["label"] if label is not None]
    if not found:
        raise RecipeError(f"{recipe.data.train} tells no labels. Give data.labels, or a list with labels.")
    return max(found) + 1


def make_dataset(
    recipe: Recipe,
    name: str,
    data_root: Path,
    processor: Processor,
    *,
    training: bool,
    num_labels: int | None = None,
    failures: FailureLog | None = None,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Dataset | IterableDataset:
    """Make the samples of a list of videos, or of a folder of tar shards.

    Args:
        name: the list or the folder, below `data_root`.
        training: draw clips as the recipe says; or take those of the processor, for validation.
        num_labels: classes of the model; a label beyond them is refused.
        failures: the record of unreadable videos, where the recipe skips them.
        seed, rank, world_size: of the run and of this process.

    Raises:
        ManifestError: if the list is not as it should be.
        RecipeError: if it lacks what the task needs, or goes beyond the classes.
    """
    settings = sample_settings(recipe, processor, training)
    policy = {"on_error": "raise" if failures is None else "skip", "failures": failures, "seed": seed}
    path = data_root / name
    if path.is_dir() and any(path.glob("*.tar")):
        if not training:
            return ShardDataset(path, settings, **policy)
        if recipe.training.get("max_steps", -1) < 1:
            raise RecipeError(
                f"{path} holds shards, which do not tell how many clips there are: set training.max_steps."
            )
        own = {"rank": rank, "world_size": world_size, "repeat": world_size > 1}
        return ShardDataset(path, settings, shuffle=1000, **own, **policy)
    data, task = recipe.data, training_task(recipe.model.task)
    videos = data.train_videos if training else data.validation_videos
    only = None if videos is None else data_root / videos
    rows = load_manifest(path, data_root, layout=data.layout, only=only, allow_duplicates=task.allow_duplicates)
    if task.column is not None and any(value is None for value in rows[task.column]):
        raise RecipeError(
            f"{path} has rows without a {task.column}, which {recipe.model.task} needs. Add it, or choose another "
            "list."
        )
    if task.column == "label" and max(rows["label"]) >= num_labels:
        raise RecipeError(
            f"{path} has the label {max(rows['label'])}, and there are {num_labels} classes, counted from 0. Correct "
            "the list, or data.labels."
        )
    if task.column == "caption" and data.min_words > 1:
        rows = rows.filter(
            partial(_has_words, rule=data.caption_rule, at_least=data.min_words), input_columns="caption"
        )
    return VideoDataset(rows, settings, **policy)


def make_sampler(
    recipe: Recipe, dataset: Dataset, processor: Processor, model: Any, batch_size: int, seed: int
) -> HardNegativeBatchSampler | None:
    """Make what puts the rows of a list in order where the recipe wants similar captions together; None elsewhere.

    Args:
        dataset: of `make_dataset`, for training.
        model: the dual encoder that is trained.
        batch_size: pairs that are compared with each other in one process.

    Raises:
        RecipeError: if the captions are in shards, which come in their own order, or a number is out of range.
    """
    if recipe.data.similar_batches is None:
        return None
    if not isinstance(dataset, VideoDataset):
        raise RecipeError("data.similar_batches needs a list of videos, and these are shards. Set it to null.")
    captions = dataset.rows["caption"][:]
    if recipe.data.caption_rule is not None:
        captions = [clean_caption(caption, recipe.data.caption_rule) for caption in captions]
    try:
        return HardNegativeBatchSampler(
            dataset.rows["video"][:],
            partial(embed_captions, model, captions, processor),
            batch_size=batch_size,
            seed=seed,
            **recipe.data.similar_batches,
        )
    except ValueError as error:
        raise RecipeError(f"data.similar_batches: {error}.") from error


def embed_captions(model: Any, captions: Sequence[str], processor: InternVideoProcessor) -> np.ndarray:
    """Embed captions by a dual encoder as it is now: unit vectors, `(captions, dim)`, equal bits in all processes."""
    was_training = model.training
    vectors = embed_texts(model.eval(), processor, captions, truncation=True).to(model.device)
    model.train(was_training)
    if distributed.is_available() and distributed.is_initialized():
        distributed.broadcast(vectors, src=0)
    return vectors.cpu().numpy()


def make_tokenizer(recipe: Recipe, data_root: Path, start: str | Path | None = None) -> CLIPTokenizer | None:
    """Make the tokenizer of the captions' own vocabulary; None where the recipe wants all of CLIP's.

    Args:
        recipe: says where the captions are.
        data_root: the folder that they are in.
        start: what the model starts from. A dual encoder's folder brings the words that its embeddings are of.

    Raises:
        RecipeError: if the captions are in shards.
        ManifestError: if the list is not as it should be.
    """
    if recipe.model.vocabulary is None:
        return None
    if start is not None and (Path(start) / "tokenizer.json").is_file():
        return CLIPTokenizer.from_pretrained(start)
    path, data = data_root / recipe.data.train, recipe.data
    if path.is_dir():
        raise RecipeError(f"model.vocabulary=captions needs a list of videos, and {path} is a folder. Set it to null.")
    rows = load_manifest(path, data_root, layout=data.layout, check_files=False, allow_duplicates=True)
    captions = {caption for caption in rows["caption"] if caption is not None}
    if data.caption_rule is not None:
        captions = {clean_caption(caption, data.caption_rule) for caption in captions}
    return build_clip_tokenizer(texts=map(clean_text, captions))


def make_collator(recipe: Recipe, processor: Processor, num_labels: int | None, *, training: bool) -> VideoCollator:
    """What makes batches of a recipe's samples: texts as tokens, clips mixed."""
    return training_task(recipe.model.task).make_collator(
        training=training,
        processor=processor,
        num_labels=num_labels,
        mixup=recipe.data.mixup,
        caption_rule=recipe.data.caption_rule,
        equal_captions=recipe.data.equal_captions,
    )


def _has_words(caption: str, rule: str | None, at_least: int) -> bool:
    return len((caption if rule is None else clean_caption(caption, rule)).split()) >= at_least
