"""Models of this package for mteb, the benchmark of embeddings behind the MVEB leaderboard of videos."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import torch
from datasets import Dataset, Video
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_implementations import MODEL_REGISTRY
from mteb.models.model_meta import ModelMeta, ScoringFunction

from internvideo_hf.auto import FAMILIES
from internvideo_hf.checkpoints.model_names import DEMO_MODELS, released_row
from internvideo_hf.checkpoints.released import released_rows
from internvideo_hf.data.samples import Row
from internvideo_hf.inference.embedder import Embedder
from internvideo_hf.inference.runner import RunSettings, cast_of
from internvideo_hf.utils.names import is_repository_name

REVISION = "released"
"""Of the released models, each of which has one file."""
_AUTHORS, _OURS, _LOCAL = "OpenGVLab", "internvideo_hf", "local"
"""Owners of the released models, of the toy models and of other folders in mteb's names, which are owner/name."""
_NO_LIMIT = 10**9  # tokens; where tokenizers know none, they name a number above it


class VideoTextEncoder(AbsEncoder):
    """A model as mteb calls it: it embeds the videos, the texts, or both of each row.

    Videos are decoded here, with the frames that the model's processor chooses, and not by mteb, whose collators hand
    over others. A row of a video and a text is the sum of both embeddings, as of mteb's own models. Texts that are too
    long are cut; one without words, and an unreadable video, are zeros, which resemble nothing.

    Args:
        name: the model's, in mteb.
        revision: of the model, in mteb.
        device: where the model runs; the accelerator if there is one.
        model: folder or name of the model, see `resolve_model`; `name` if None.
        dtype: number type of weights and pixels, such as "float16"; as saved if None.
        settings: decoding processes, tolerated unreadable videos, progress bars; mteb says the size of batches.

    Attributes:
        embedder: embeds.
        causes: why videos could not be read; a line for each.
        mteb_model_meta: what mteb knows of the model.

    Raises:
        ValueError: if the model cannot be loaded.
    """

    def __init__(
        self,
        name: str,
        revision: str | None = None,
        device: str | torch.device | None = None,
        *,
        model: str | Path | None = None,
        dtype: str | None = None,
        settings: RunSettings | None = None,
    ):
        self.embedder = Embedder(name if model is None else model, device, dtype=dtype)
        self.causes: list[str] = []
        self._settings = RunSettings(quiet=True) if settings is None else settings
        self.mteb_model_meta = _meta(name, revision, **_facts(self.embedder))

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Embed the rows of a part of a task; see mteb's `EncoderProtocol`.

        Args:
            inputs: a data loader of mteb, whose `dataset` has the columns `video`, `text` or both.
            task_metadata: of the task, whose name stands in messages.
            hf_split: of the task.
            hf_subset: of the task.
            prompt_type: whether they are queries or documents, which are the same to these models.
            batch_size: videos at once; as of the settings if None.
            kwargs: others of mteb.

        Returns:
            `(rows, dim)`, float32; unit vectors, but of rows with a video and a text.

        Raises:
            TooManyFailuresError: if more videos are unreadable than the settings tolerate.
            ValueError: if there is neither, or the model takes no texts.
        """
        dataset: Dataset = inputs.dataset
        found = []
        if "video" in dataset.features:
            settings = replace(self._settings, batch_size=batch_size or self._settings.batch_size)
            embeddings, causes = self.embedder.embed_videos(_Videos(dataset, task_metadata.name), settings)
            self.causes += causes.values()
            found.append(torch.nan_to_num(embeddings))
        if "text" in dataset.features:
            found.append(self._embed_texts(list(dataset["text"])))
        if not found:
            raise ValueError(
                f"{task_metadata.name} has neither videos nor texts, but {', '.join(dataset.column_names)}. These "
                "models take no other modality."
            )
        return torch.stack(found).sum(dim=0).numpy()

    def _embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        has_words = torch.tensor([bool(text.strip()) for text in texts], dtype=torch.bool)
        worded = [text for text in texts if text.strip()] or ["."]  # which says how long embeddings are
        embeddings = self.embedder.embed_texts(worded, truncation=True)
        table = embeddings.new_zeros(len(texts), embeddings.shape[1])
        table[has_words] = embeddings[: int(has_words.sum())]
        return table


class _Videos(Sequence[Row]):
    """The videos of a column, as rows that are read when they are asked for.

    Args:
        dataset: with the column `video`.
        task: its name, for messages.
    """

    def __init__(self, dataset: Dataset, task: str):
        if isinstance(dataset.features["video"], Video):
            dataset = dataset.cast_column("video", Video(decode=False))
        self._dataset, self._task = dataset.select_columns("video"), task

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[place] for place in range(*number.indices(len(self)))]
        video = self._dataset[number]["video"]
        label = f"video {number} of {self._task}"
        return {"video": _Encoded(video, label) if isinstance(video, dict) else video}


class _Encoded(dict[str, Any]):
    """Path and bytes of a video, as `datasets` gives them, with a name for messages."""

    def __init__(self, row: Any, label: str):
        super().__init__(row)
        self.label = label

    def __str__(self) -> str:
        return str(self["path"] or self.label)


def load(
    model: str | Path,
    device: str | torch.device | None = None,
    dtype: str | None = None,
    settings: RunSettings | None = None,
) -> VideoTextEncoder:
    """Load any model for mteb, as in `mteb.evaluate(load("run/final"), mteb.get_tasks(tasks=["MSVDT2VRetrieval"]))`.

    Args:
        model: folder or name, see `resolve_model`. A folder is "local/FOLDER" in mteb, and its revision the hash of
            everything that affects embeddings.
        device: where it runs; the accelerator if there is one.
        dtype: number type of weights and pixels, under which mteb keeps the results apart; as saved if None.
        settings: see `VideoTextEncoder`.
    """
    text = str(model)
    row = None if Path(text).exists() else released_row(text)
    name = mteb_name(model)
    encoder = VideoTextEncoder(name, REVISION, device, model=model, dtype=dtype, settings=settings)
    embedder = encoder.embedder
    if row is None:
        commit = getattr(embedder.model.config, "_commit_hash", None)
        revision = str(commit or embedder.fingerprint.rpartition(":")[2])
        encoder.mteb_model_meta = encoder.mteb_model_meta.model_copy(update={"revision": revision})
    else:
        encoder.mteb_model_meta = released_meta(row).model_copy(update=_facts(embedder) | {"loader_kwargs": {}})
    if (number_type := cast_of(embedder.model)) is not None:
        encoder.mteb_model_meta = encoder.mteb_model_meta.model_copy(
            update={"experiment_kwargs": {"dtype": number_type}}
        )
    return encoder


def mteb_name(model: str | Path) -> str:
    """Return the name of a model in mteb, owner/name.

    Args:
        model: folder or name, see `resolve_model`.
    """
    text = str(model)
    if Path(text).exists():
        return f"{_LOCAL}/{Path(text).resolve().name}"
    if text in DEMO_MODELS:
        return f"{_OURS}/{text}"
    if (row := released_row(text)) is not None:
        return _released_name(row)
    return text if is_repository_name(text) else f"{_LOCAL}/{text}"


def released_metas() -> list[ModelMeta]:
    """Return what mteb needs to know of each released model of video and text, with what loads it."""
    return [released_meta(row) for row in released_rows() if _is_dual_encoder(row)]


def released_meta(row: Any) -> ModelMeta:
    """Return what mteb needs to know of a released model, with what loads it; the first load converts its file.

    Args:
        row: of `released.json`.
    """
    license_name = row["licence"].lower()
    return _meta(
        _released_name(row),
        REVISION,
        loader=VideoTextEncoder,
        loader_kwargs={"model": row["name"]},
        license=license_name if re.fullmatch(r"[\w.-]+", license_name) else None,
        reference=row["address"],
        training_datasets=_trained_on(row),
    )


def register() -> None:
    """Let `mteb.get_model` and `mteb.get_model_meta` know the released models, in this process."""
    MODEL_REGISTRY.update({meta.name: meta for meta in released_metas() if meta.name is not None})


def _released_name(row: Any) -> str:
    return f"{_AUTHORS}/{row['name'].replace(' ', '-')}"


def _is_dual_encoder(row: Any) -> bool:
    """Return whether a released model embeds videos and texts in one space: no classifier, no model of answers."""
    test = row["evaluation"]
    return FAMILIES[row["family"]].processor_name is not None and (test is None or "protocol" in test)


def _trained_on(row: Any) -> set[str] | None:
    """Return mteb's names of the data that a model was fine-tuned on; None if nothing is stated."""
    if row["evaluation"] is None:
        return None
    start = re.sub(r"\W", "", row["evaluation"]["data_set"]).lower()
    names = (task.metadata.name for task in mteb.get_tasks(modalities=["video"], exclude_superseded=False))
    return {name for name in names if re.sub(r"\W", "", name).lower().startswith(start)} or None


def _facts(embedder: Embedder) -> dict[str, Any]:
    """Return what a loaded model says of itself, as mteb names it."""
    model: Any = embedder.model
    tokenizer = None if embedder.processor is None else embedder.processor.tokenizer
    takes_texts = embedder.text_problem is None
    longest = tokenizer.model_max_length if takes_texts and tokenizer is not None else _NO_LIMIT
    return {
        "n_parameters": model.num_parameters() or None,
        "memory_usage_mb": sum(value.nbytes for value in model.parameters()) / 2**20 or None,
        "embed_dim": getattr(model.config, "projection_dim", None) or getattr(model.config, "hidden_size", None),
        "max_tokens": longest if longest < _NO_LIMIT else None,
        "modalities": ["video", "text"] if takes_texts else ["video"],
    }


_UNKNOWN = (
    *("loader", "release_date", "n_parameters", "memory_usage_mb", "max_tokens", "embed_dim", "license"),
    *("public_training_code", "public_training_data", "training_datasets"),
)
"""Fields that `ModelMeta` needs, and that are None where nothing else is said."""


def _meta(name: str, revision: str | None, **known: Any) -> ModelMeta:
    return ModelMeta(
        **{
            **dict.fromkeys(_UNKNOWN),
            "name": name,
            "revision": revision,
            "languages": ["eng-Latn"],
            "open_weights": True,
            "framework": ["PyTorch", "Transformers"],
            "similarity_fn_name": ScoringFunction.COSINE,
            "use_instructions": False,
            "modalities": ["video", "text"],
            **known,
        }
    )
