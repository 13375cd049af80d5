"""From a recipe's lists of videos to what the Trainer reads."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
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
from internvideo_hf.tasks.base import Training
from internvideo_hf.training.recipes import ClipSettings, DataSettings, RecipeError, training_task
from internvideo_hf.utils.names import lookup

VideoProcessor = InternVideoVideoProcessor | InternVideoFusedVideoProcessor
Processor = InternVideoProcessor | VideoProcessor


def video_processor_of(processor: Processor) -> VideoProcessor:
    """The part of a processor that makes pixels."""
    return getattr(processor, "video_processor", processor)


def sample_settings(
    clip: ClipSettings, processor: Processor, *, training: bool
) -> SampleSettings | dict[str, SampleSettings]:
    """Return how a row becomes a sample: for training as the recipe says, for validation as the processor does.

    Size, statistics and color order of the pixels are the processor's in both.

    Args:
        clip: of the recipe.
        processor: of the model.
        training: whether clips are drawn as the recipe says.

    Returns:
        Settings; of a model with several inputs, by the names of the inputs.
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


@dataclass(frozen=True)
class TrainingData:
    """The lists of a recipe, read once.

    Args:
        train: rows, or a folder of tar shards.
        validation: the same; None if nothing is validated.
        classes: of classification, the names of the classes, or how many there are.
    """

    train: Any
    validation: Any
    classes: list[str] | int | None

    @classmethod
    def read(cls, data: DataSettings, task: str, data_root: Path) -> "TrainingData":
        """Read and check a recipe's lists.

        Args:
            data: of the recipe.
            task: of the recipe, by name.
            data_root: the folder that the lists, and the paths in them, begin in.

        Raises:
            ManifestError: if a list is not as it should be.
            RecipeError: if a list lacks what the task needs, or the classes cannot be found.
        """
        train = _read_list(data.train, data.train_videos, data, task, data_root)
        validation = None
        if data.validation is not None:
            validation = _read_list(data.validation, data.validation_videos, data, task, data_root)
        return cls(
            train, validation, _classes(data, train, data_root) if training_task(task).column == "label" else None
        )

    def check_labels(self, num_labels: int) -> None:
        """Refuse labels beyond the classes of the model.

        Raises:
            RecipeError: if there are such.
        """
        for name, rows in (("train", self.train), ("validation", self.validation)):
            if rows is not None and not isinstance(rows, Path) and max(rows["label"]) >= num_labels:
                raise RecipeError(
                    f"The list data.{name} has the label {max(rows['label'])}, and there are {num_labels} classes, "
                    "counted from 0. Correct the list, or data.labels."
                )


def _read_list(name: str, videos: str | None, data: DataSettings, task_name: str, data_root: Path) -> Any:
    path, task = data_root / name, training_task(task_name)
    if path.is_dir() and any(path.glob("*.tar")):
        return path
    only = None if videos is None else data_root / videos
    rows = load_manifest(path, data_root, layout=data.layout, only=only, allow_duplicates=task.allow_duplicates)
    if task.column is not None and any(value is None for value in rows[task.column]):
        raise RecipeError(
            f"{path} has rows without a {task.column}, which {task_name} needs. Add it, or choose another list."
        )
    if task.column == "caption" and data.min_words > 1:
        rows = rows.filter(
            partial(_has_words, rule=data.caption_rule, at_least=data.min_words), input_columns="caption"
        )
    return rows


def _classes(data: DataSettings, train: Any, data_root: Path) -> list[str] | int:
    """Return the classes that a recipe names; otherwise one more than the largest label of the training list."""
    if isinstance(data.labels, int):
        return data.labels
    if data.labels in LABEL_SETS:
        return load_labels(data.labels)
    if data.labels is not None:
        try:
            lines = (data_root / data.labels).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(
                f"data.labels is {data.labels!r}: no set of that name ({', '.join(LABEL_SETS)}), and as a file it "
                f"cannot be read ({error})."
            ) from error
        return [line.strip() for line in lines if line.strip()]
    if isinstance(train, Path):
        raise RecipeError(f"{data.train} holds shards, which do not say how many classes there are: set data.labels.")
    return int(max(train["label"])) + 1


def make_dataset(
    source: Any,
    settings: SampleSettings | dict[str, SampleSettings],
    *,
    training: bool,
    failures: FailureLog | None = None,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Dataset | IterableDataset:
    """Make the samples of a list of videos, or of a folder of tar shards.

    Args:
        source: `TrainingData.train` or `.validation`.
        settings: from `sample_settings`.
        training: shuffle shards, and give each process its own.
        failures: the record of unreadable videos, where the recipe skips them.
        seed, rank, world_size: of the run and of this process.
    """
    policy = {"on_error": "raise" if failures is None else "skip", "failures": failures, "seed": seed}
    if not isinstance(source, Path):
        return VideoDataset(source, settings, **policy)
    if not training:
        return ShardDataset(source, settings, **policy)
    own = {"rank": rank, "world_size": world_size, "repeat": world_size > 1}
    return ShardDataset(source, settings, shuffle=1000, **own, **policy)


def make_sampler(
    data: DataSettings, dataset: Dataset, processor: Processor, model: Any, batch_size: int, seed: int
) -> HardNegativeBatchSampler | None:
    """Make the sampler that groups similar captions, if the recipe wants it.

    Args:
        data: of the recipe.
        dataset: of `make_dataset`, for training.
        processor: of the model.
        model: the dual encoder that is trained.
        batch_size: pairs that are compared with each other in one process.
        seed: of the run.

    Raises:
        RecipeError: if the captions are in shards, which come in their own order, or a number is out of range.
    """
    if data.similar_batches is None:
        return None
    if not isinstance(dataset, VideoDataset):
        raise RecipeError("data.similar_batches needs a list of videos, and these are shards. Set it to null.")
    captions = dataset.rows["caption"][:]
    if data.caption_rule is not None:
        captions = [clean_caption(caption, data.caption_rule) for caption in captions]
    try:
        return HardNegativeBatchSampler(
            dataset.rows["video"][:],
            partial(embed_captions, model, captions, processor),
            batch_size=batch_size,
            seed=seed,
            **data.similar_batches,
        )
    except ValueError as error:
        raise RecipeError(f"data.similar_batches: {error}.") from error


def embed_captions(model: Any, captions: Sequence[str], processor: InternVideoProcessor) -> np.ndarray:
    """Embed captions with a dual encoder as it is now: unit vectors, `(captions, dim)`, equal in all processes."""
    was_training = model.training
    vectors = embed_texts(model.eval(), processor, captions, truncation=True).to(model.device)
    model.train(was_training)
    if distributed.is_available() and distributed.is_initialized():
        distributed.broadcast(vectors, src=0)
    return vectors.cpu().numpy()


def make_tokenizer(
    vocabulary: str | None, rows: Any, caption_rule: str | None, start: str | Path | None = None
) -> CLIPTokenizer | None:
    """Make the tokenizer of the captions' own vocabulary; None where the recipe wants all of CLIP's.

    Args:
        vocabulary: of the recipe's model.
        rows: `TrainingData.train`.
        caption_rule: how captions are cleaned.
        start: what the model starts from. The folder of a dual encoder brings the words that its embeddings are of.

    Raises:
        RecipeError: if the captions are in shards.
    """
    if vocabulary is None:
        return None
    if start is not None and (Path(start) / "tokenizer.json").is_file():
        return CLIPTokenizer.from_pretrained(start)
    if isinstance(rows, Path):
        raise RecipeError(f"model.vocabulary=captions needs a list of videos, and {rows} is a folder. Set it to null.")
    captions = {caption for caption in rows["caption"] if caption is not None}
    if caption_rule is not None:
        captions = {clean_caption(caption, caption_rule) for caption in captions}
    return build_clip_tokenizer(texts=map(clean_text, captions))


def make_collator(
    data: DataSettings, task: Training, processor: Processor, num_labels: int | None, *, training: bool
) -> VideoCollator:
    """Make what turns a recipe's samples into batches: texts as tokens, clips mixed.

    Args:
        data: of the recipe.
        task: of the recipe.
        processor: of the model.
        num_labels: classes of the model.
        training: mix clips, and leave out unreadable videos.
    """
    return task.make_collator(
        training=training,
        processor=processor,
        num_labels=num_labels,
        mixup=data.mixup,
        caption_rule=data.caption_rule,
        equal_captions=data.equal_captions,
    )


def _has_words(caption: str, rule: str | None, at_least: int) -> bool:
    return len((caption if rule is None else clean_caption(caption, rule)).split()) >= at_least
