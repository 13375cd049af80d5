"""Inputs of the Trainer from a recipe: datasets, samplers, tokenizers and collators."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import distributed
from transformers import CLIPTokenizer
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import logging

from internvideo_hf.data.alternating import AlternatingSampler, VideosAndImages
from internvideo_hf.data.class_folders import describe_folder
from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.failures import FailureLog
from internvideo_hf.data.hard_negatives import HardNegativeBatchSampler
from internvideo_hf.data.layouts import READ_LISTS
from internvideo_hf.data.manifests import load_manifest
from internvideo_hf.data.records import list_path
from internvideo_hf.data.samples import VIEWS, SampleSettings
from internvideo_hf.data.shard_files import is_pattern, shards_of
from internvideo_hf.data.shards import INDEX, ShardDataset
from internvideo_hf.inference.embedder import embed_texts
from internvideo_hf.processing.fused_video_processing import InternVideoFusedVideoProcessor
from internvideo_hf.processing.processing import InternVideoProcessor, clean_text
from internvideo_hf.processing.tokenizer import build_clip_tokenizer
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.recipes.captions import clean_caption
from internvideo_hf.recipes.labels import read_classes
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.base import Training
from internvideo_hf.training.recipes import ClipSettings, DataSettings, ImageSettings, training_task
from internvideo_hf.utils.names import lookup
from internvideo_hf.utils.pretrained import load_pretrained
from internvideo_hf.utils.storage import below

if TYPE_CHECKING:
    import datasets

logger = logging.get_logger(__name__)
VideoProcessor = InternVideoVideoProcessor | InternVideoFusedVideoProcessor
Processor = InternVideoProcessor | VideoProcessor


def video_processor_of(processor: Processor) -> VideoProcessor:
    """Return the video processor of a processor.

    Args:
        processor: with or without a tokenizer.
    """
    return processor.video_processor if isinstance(processor, InternVideoProcessor) else processor


def sample_settings(
    clip: ClipSettings, processor: Processor, *, training: bool
) -> SampleSettings | dict[str, SampleSettings]:
    """Return the settings of samples: the recipe's for training, the processor's for validation.

    Size, statistics and channel order of the pixels are always the processor's.

    Args:
        clip: settings of the recipe.
        processor: of the model.
        training: whether the samples are for training.

    Returns:
        The settings; for a model with several inputs, by name of the input.
    """
    branches = video_processor_of(processor).branches
    by_input = {name: _settings_of(branch, clip.of_input(name), training) for name, branch in branches.items()}
    return next(iter(by_input.values())) if len(by_input) == 1 else by_input


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
    known: dict[str, Any] = {
        "size": size["height"] if "height" in size else size["shortest_edge"],
        "mean": list(videos.image_mean),
        "std": list(videos.image_std),
        "processor": videos,
    }
    accepted = inspect.signature(lookup(VIEWS, clip.view, "data.clip.view")).parameters
    return SampleSettings(
        num_frames=videos.num_frames,
        sampler=clip.sampler,
        sampler_options=clip.sampler_options,
        view=clip.view,
        view_options={name: value for name, value in known.items() if name in accepted} | clip.view_options,
        num_views=clip.num_views,
        mask=clip.mask,
        # A processor reorders the channels itself.
        channel_order="rgb" if clip.view == "processor" else videos.channel_order,
    )


@dataclass(frozen=True)
class TrainingData:
    """The lists of a recipe, read once.

    Args:
        train: rows, or a directory of tar shards that `write_shards` wrote, which are streamed.
        validation: the same; None for no validation.
        classes: the names of the classes or answers, of several heads by their names, or the number of classes; None
            for tasks without.
        paths: of the lists: the file or the folder that was read, by the name of the setting.
        images: rows of images with captions, to train on by turns with those of `train`; None for none.
    """

    train: "datasets.Dataset | Path"
    validation: "datasets.Dataset | Path | None"
    classes: list[str] | dict[str, list[str]] | int | None
    paths: dict[str, Path] = field(default_factory=dict)
    images: "datasets.Dataset | None" = None

    @classmethod
    def read(cls, data: DataSettings, task: str, data_root: Path) -> "TrainingData":
        """Read and check a recipe's lists.

        Args:
            data: settings of the recipe.
            task: name of the recipe's task.
            data_root: directory that the lists, and the paths in them, are relative to.

        Raises:
            ManifestError: if a list is invalid.
            RecipeError: if a list lacks a column that the task needs, or the classes are unknown.
        """
        if training_task(task).read is not None:
            return cls._read_by_task(data, training_task(task), data_root)
        names = read_classes(data.labels, data_root) if isinstance(data.labels, str) else None
        paths = {"data.train": _path_of(data_root, data.train)}
        train = _read_list(paths["data.train"], data.train_videos, data, task, data_root, names)
        classes = None
        if training_task(task).column == "label":
            classes = names or _found_classes(data, train)
        validation = None
        if data.validation is not None:
            paths["data.validation"] = path = _validation_path(data_root, data.validation)
            names = classes if isinstance(classes, list) else names
            validation = _read_list(path, data.validation_videos, data, task, data_root, names)
            if names is None and classes is not None and _names_of(validation) is not None:
                raise RecipeError(
                    f"{path} has names for labels, and {paths['data.train']} numbers. Write the same in both lists."
                )
        images = None
        if data.images is not None:
            paths["data.images.train"] = path = _path_of(data_root, data.images.train)
            images = _read_list(path, None, replace(data, layout=None), task, data_root, None)
            if isinstance(train, Path) or isinstance(images, Path):
                raise RecipeError("data.images needs lists of videos and of images, got shards. Set it to null.")
        return cls(train, validation, classes, paths, images)

    @classmethod
    def _read_by_task(cls, data: DataSettings, task: Training, data_root: Path) -> "TrainingData":
        """Read lists of another kind than those of `load_manifest`."""
        assert task.read is not None
        for name in ("train_videos", "validation_videos"):
            if getattr(data, name) is not None:
                raise RecipeError(f"data.{name} is for lists of captions alone. Leave it out.")
        read = partial(
            task.read,
            data_root=data_root,
            layout=data.layout,
            labels=data.labels,
            skip_missing=data.missing == "skip",
            **({} if task.section == "clip" else {task.section: getattr(data, task.section)}),
            **({} if data.heads is None else {"heads": data.heads}),
        )
        paths = {"data.train": _path_of(data_root, data.train)}
        train, classes = read(paths["data.train"])
        validation = None
        if data.validation is not None:
            paths["data.validation"] = _validation_path(data_root, data.validation)
            validation, _ = read(paths["data.validation"], classes=classes)
        return cls(train, validation, classes, paths)

    def check_labels(self, num_labels: int) -> None:
        """Check that all labels are classes of the model, and warn of classes without a training video.

        Args:
            num_labels: classes of the model.

        Raises:
            RecipeError: if a label is too large, or there is one class only.
        """
        if num_labels < 2:
            raise RecipeError(
                "There is one class, so there is nothing to learn. Add videos of another class, or set data.labels."
            )
        for name, rows in (("train", self.train), ("validation", self.validation)):
            if rows is None or isinstance(rows, Path):
                continue
            if (largest := max(rows["label"])) >= num_labels:
                raise RecipeError(
                    f"The list data.{name} has the label {largest}, expected 0 to {num_labels - 1}. "
                    "Correct the list, or data.labels."
                )
        if not isinstance(self.train, Path) and (empty := _without_video(self.train["label"], num_labels)):
            logger.warning(
                f"{len(empty)} of {num_labels} classes have no training video: {_first(empty)}. Is the list complete, "
                "and does it count from 0?"
            )


_NO_VALIDATION = (
    "There is no {name} for validation; {found}. Put clips not trained on into val/CLASS beside train/CLASS, "
    "or into a list of that name; or train without: data.validation=null."
)


def _path_of(data_root: Path, name: str) -> Path:
    path = list_path(data_root, name)
    if path != (named := below(data_root, name)):
        logger.warning(f"There is no {named}; {path} is read.")
    return path


def _validation_path(data_root: Path, name: str) -> Path:
    path = _path_of(data_root, name)
    if not (path.exists() or (is_pattern(path) and shards_of(path))):
        raise RecipeError(_NO_VALIDATION.format(name=name, found=describe_folder(path.parent)))
    return path


def _read_list(
    path: Path, videos: str | None, data: DataSettings, task_name: str, data_root: Path, labels: list[str] | None
) -> "datasets.Dataset | Path":
    task = training_task(task_name)
    if (path / INDEX).is_file():
        return path
    only = None if videos is None else below(data_root, videos)
    rows = load_manifest(
        path,
        data_root,
        layout=data.layout,
        labels=labels,
        only=only,
        allow_duplicates=task.allow_duplicates,
        skip_missing=data.missing == "skip",
    )
    if task.column is not None and any(value is None for value in rows[task.column]):
        raise RecipeError(
            f"{path} has rows without a {task.column}, which {task_name} needs. Add it, or choose another list. "
            f"{READ_LISTS}"
        )
    if task.column == "caption" and data.min_words > 1:
        rows = rows.filter(
            partial(_has_words, rule=data.caption_rule, at_least=data.min_words), input_columns="caption"
        )
    return rows


def _names_of(rows: "datasets.Dataset | Path") -> list[str] | None:
    """Return the class names of a list; None if its labels are numbers."""
    return None if isinstance(rows, Path) else getattr(rows.features["label"], "names", None)


def _found_classes(data: DataSettings, train: "datasets.Dataset | Path") -> list[str] | int:
    """Return the names of the training list's classes, or their number: the setting, or the largest label + 1."""
    names = _names_of(train)
    if isinstance(data.labels, int):
        if names is not None and len(names) != data.labels:
            raise RecipeError(
                f"data.labels is {data.labels}, and {data.train} has {len(names)} names of classes. Leave out "
                "data.labels, or set it to a file with the names of all classes."
            )
        return names or data.labels
    if names is not None:
        return names
    if isinstance(train, Path):
        raise RecipeError(f"{data.train} holds shards, whose number of classes is unknown: set data.labels.")
    num_labels = int(max(train["label"])) + 1
    if empty := _without_video(train["label"], num_labels):
        raise RecipeError(
            f"{data.train} has labels up to {num_labels - 1}, but none of {_first(empty)}; expected all from 0 on. "
            f"Correct the list, or set data.labels={num_labels} if classes may be without videos."
        )
    return num_labels


def _without_video(labels: Sequence[int], num_labels: int) -> list[int]:
    """Return the classes that no label names."""
    return sorted(set(range(num_labels)) - set(labels))


def _first(classes: list[int]) -> str:
    return ", ".join(map(str, classes[:5])) + (", ..." if len(classes) > 5 else "")


def make_dataset(
    source: "datasets.Dataset | Path",
    settings: SampleSettings | dict[str, SampleSettings],
    *,
    training: bool,
    failures: FailureLog | None = None,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> VideoDataset | ShardDataset:
    """Make the dataset of a list of videos, or of a directory of tar shards.

    Args:
        source: `TrainingData.train` or `.validation`.
        settings: from `sample_settings`.
        training: shuffle shards, and give each process its own.
        failures: log of unreadable videos, if the recipe skips them.
        seed: of the run.
        rank: number of this process.
        world_size: number of processes.
    """
    on_error = "raise" if failures is None else "skip"
    if not isinstance(source, Path):
        return VideoDataset(source, settings, on_error=on_error, failures=failures, seed=seed, raw=training)
    if not training:
        return ShardDataset(source, settings, on_error=on_error, failures=failures, seed=seed)
    return ShardDataset(
        source,
        settings,
        seed=seed,
        shuffle=1000,
        rank=rank,
        world_size=world_size,
        repeat=world_size > 1,
        on_error=on_error,
        failures=failures,
        raw=True,
    )


def add_images(
    videos: VideoDataset,
    images: "datasets.Dataset",
    settings: ImageSettings,
    processor: Processor,
    failures: FailureLog | None,
) -> VideosAndImages:
    """Add images to the training videos.

    Args:
        videos: from `make_dataset`.
        images: `TrainingData.images`.
        settings: of the recipe.
        processor: of the model.
        failures: log of unreadable images, if the recipe skips them.
    """
    clips = sample_settings(settings.clip, processor, training=True)
    assert isinstance(clips, SampleSettings)  # of a family with text
    frames = make_dataset(images, replace(clips, num_frames=1), training=True, failures=failures, seed=videos.seed)
    assert isinstance(frames, VideoDataset)
    return VideosAndImages(videos, frames)


def make_alternating_sampler(
    settings: ImageSettings, samples: VideosAndImages, step_size: int, seed: int
) -> AlternatingSampler:
    """Make the sampler of steps of videos and steps of images by turns.

    Args:
        settings: of the recipe.
        samples: from `add_images`.
        step_size: videos of an optimizer step.
        seed: of the run.

    Raises:
        RecipeError: if a list is too short for a step.
    """
    try:
        return AlternatingSampler(
            len(samples.videos),
            len(samples.images),
            step_size=step_size,
            images_per_video=settings.per_video,
            seed=seed,
        )
    except ValueError as error:
        raise RecipeError(f"data.images: {error}.") from error


def make_sampler(
    data: DataSettings,
    rows: "datasets.Dataset | Path",
    processor: Processor | None,
    model: PreTrainedModel,
    batch_size: int,
    seed: int,
) -> HardNegativeBatchSampler | None:
    """Make the sampler of batches of similar captions, if the recipe sets `similar_batches`.

    Args:
        data: settings of the recipe.
        rows: `TrainingData.train`.
        processor: of the model; None for models of features.
        model: the dual encoder in training.
        batch_size: pairs that the loss compares in one process.
        seed: of the run.

    Raises:
        RecipeError: if the captions are in shards, whose order is fixed, or a number is out of range.
    """
    if data.similar_batches is None:
        return None
    if isinstance(rows, Path):
        raise RecipeError("data.similar_batches needs a list of videos, got shards. Set it to null.")
    assert isinstance(processor, InternVideoProcessor)  # the task has texts
    captions = rows["caption"][:]
    if data.caption_rule is not None:
        captions = [clean_caption(caption, data.caption_rule) for caption in captions]
    try:
        return HardNegativeBatchSampler(
            rows["video"][:],
            partial(embed_captions, model, captions, processor),
            batch_size=batch_size,
            seed=seed,
            **data.similar_batches,
        )
    except ValueError as error:
        raise RecipeError(f"data.similar_batches: {error}.") from error


def embed_captions(model: PreTrainedModel, captions: Sequence[str], processor: InternVideoProcessor) -> np.ndarray:
    """Embed captions with the current weights of a dual encoder, equally in all processes.

    Args:
        model: the dual encoder.
        captions: clean texts.
        processor: of the model.

    Returns:
        Unit vectors, `(captions, projection_dim)`.
    """
    was_training = model.training
    vectors = embed_texts(model.eval(), processor, captions, truncation=True).to(model.device)
    model.train(was_training)
    if distributed.is_available() and distributed.is_initialized():
        distributed.broadcast(vectors, src=0)
    return vectors.cpu().numpy()


def make_tokenizer(
    vocabulary: str | None, rows: "datasets.Dataset | Path", caption_rule: str | None, start: str | Path | None = None
) -> CLIPTokenizer | None:
    """Make a tokenizer with the vocabulary of the captions; None if the recipe uses CLIP's full vocabulary.

    Args:
        vocabulary: setting of the recipe's model.
        rows: `TrainingData.train`.
        caption_rule: how captions are cleaned.
        start: what the model starts from. The directory of a dual encoder has the tokenizer of its embeddings.

    Raises:
        RecipeError: if the captions are in shards.
    """
    if vocabulary is None:
        return None
    if start is not None and (Path(start) / "tokenizer.json").is_file():
        return load_pretrained(CLIPTokenizer, start)
    if isinstance(rows, Path):
        raise RecipeError(
            f"model.vocabulary=captions needs a list of videos, got the directory {rows}. Set it to null."
        )
    captions = {caption for caption in rows["caption"] if caption is not None}
    if caption_rule is not None:
        captions = {clean_caption(caption, caption_rule) for caption in captions}
    return build_clip_tokenizer(texts=map(clean_text, captions))


def make_collator(
    data: DataSettings, task: Training, processor: Processor | None, num_labels: int | None, *, training: bool
) -> Callable[[list[Any]], dict[str, Any]]:
    """Make the collator of a recipe's samples, with tokenization and mixup.

    Args:
        data: settings of the recipe.
        task: of the recipe.
        processor: of the model; None for models of features.
        num_labels: classes of the model.
        training: apply mixup, and drop unreadable videos.
    """
    collator: Callable[[list[Any]], dict[str, Any]] = task.make_collator(
        training=training,
        processor=processor,
        num_labels=num_labels,
        mixup=data.mixup,
        caption_rule=data.caption_rule,
        equal_captions=data.equal_captions,
    )
    return collator


def _has_words(caption: str, rule: str | None, at_least: int) -> bool:
    return len((caption if rule is None else clean_caption(caption, rule)).split()) >= at_least
