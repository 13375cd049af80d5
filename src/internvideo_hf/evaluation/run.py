"""An evaluation run: from a protocol, a model and a folder of data to scores beside the published ones."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import AutoModel, AutoProcessor
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.failures import TooManyFailuresError
from internvideo_hf.data.manifests import read_manifest
from internvideo_hf.data.samples import Row, SampleSettings
from internvideo_hf.evaluation.protocols import Protocol
from internvideo_hf.inference.merging import Merged, top_k_accuracy
from internvideo_hf.inference.ranking import retrieval_metrics
from internvideo_hf.models.common.loading import load_strict
from internvideo_hf.processing.post_process import zero_shot_scores
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.recipes import load_prompts
from internvideo_hf.recipes.captions import clean_caption
from internvideo_hf.recipes.labels import load_labels
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.multiple_choice.data import read_questions
from internvideo_hf.utils.devices import default_device, default_workers
from internvideo_hf.utils.files import atomic_write_text
from internvideo_hf.utils.fingerprints import file_sha256
from internvideo_hf.video.errors import VideoDecodeError

TEXTS_AT_ONCE = 256
VIDEOS_AT_ONCE = 1024  # in scores of classes, of which there are some for each prompt


def evaluate(
    protocol: Protocol,
    model: str | Path,
    data_root: str | Path = ".",
    out: str | Path | None = None,
    *,
    name: str = "protocol",
    batch_size: int = 8,
    workers: int | None = None,
    device: str | torch.device | None = None,
    max_damaged: float = 0.01,
    quiet: bool = False,
) -> dict[str, Any]:
    """Evaluate a dual encoder by a protocol.

    Every video and every text goes through the model once. A damaged video is never scored as correct: nothing finds
    it and it finds nothing, and its class or answer counts as wrong.

    Args:
        protocol: from `load_protocol`.
        model: a converted folder, or a name on the Hub. Where the protocol averages with CLIP, `internvideo merge`
            makes the folder.
        data_root: the folder that the protocol's lists begin in, and that holds the videos, at any depth.
        out: a JSON file for the result; it appears whole or not at all.
        name: the protocol's, for the result.
        batch_size: videos that go through the model at once.
        workers: processes that decode; one for each core, 8 at most, where None; 0 for this process.
        device: where the model runs; the accelerator if there is one.
        max_damaged: the share of the videos that may be damaged, in [0, 1).
        quiet: no progress bars.

    Returns:
        What the file holds: `protocol`, `settings`, `model`, `data`, `scores`, `published`, `damaged` and what it ran
        on. `internvideo_hf.evaluation.report.table` prints it.

    Raises:
        RecipeError: if protocol and model do not fit each other.
        ManifestError: if a list is not as it should be.
        TooManyFailuresError: if more videos are damaged than may be.
    """
    check_options(batch_size, workers, max_damaged)
    started, data_root = time.monotonic(), Path(data_root)
    out = None if out is None else prepare_out(out)
    samples = READERS[protocol.task](protocol, data_root)
    encoder = Encoder.load(protocol, model, device, batch_size, default_workers(workers), quiet)
    embeds, damaged = encoder.embed_videos(samples.videos, max_damaged)
    scores = SCORERS[protocol.task](protocol, encoder, samples, embeds, list(damaged))
    result = {
        "protocol": name,
        "settings": asdict(protocol),
        "model": {"name": str(model), "family": encoder.model.config.model_type, "parameters": encoder.num_parameters},
        "data": {
            "files": {
                file: file_sha256(data_root / file) for file in (protocol.data.list, protocol.data.only) if file
            },
            "videos": len(samples.videos),
            "texts": samples.num_texts,
        },
        "damaged": [
            {"video": str(samples.videos[index]["video"]), "cause": cause} for index, cause in damaged.items()
        ],
        "scores": scores,
        "published": [asdict(entry) for entry in protocol.published],
        "device": str(encoder.device),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "seconds": round(time.monotonic() - started, 1),
    }
    if out is not None:
        write_result(result, out)
    return result


def check_options(batch_size: int, workers: int | None, max_damaged: float) -> None:
    """Refuse numbers that make no sense; they are those of `evaluate`.

    Raises:
        ValueError: if one is out of range.
    """
    if batch_size < 1 or (workers is not None and workers < 0) or not 0 <= max_damaged < 1:
        raise ValueError(
            f"batch_size={batch_size}, workers={workers}, max_damaged={max_damaged}: expected a batch of 1 or more, "
            "workers from 0, and a share in [0, 1)."
        )


def prepare_out(out: str | Path) -> Path:
    """Make the folder of a result's file, before there is a result.

    Raises:
        FileExistsError: if the file is a folder.
    """
    out = Path(out)
    if out.is_dir():
        raise FileExistsError(f"{out} is a folder. Give the name of a file, such as {out / 'result.json'}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def write_result(result: Mapping[str, Any], out: Path) -> None:
    """Write a result as JSON; the file appears whole or not at all."""
    text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
    atomic_write_text(out, text)


# ---- what is evaluated on -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Samples:
    """Videos, each once, and what belongs to them.

    Args:
        videos: rows for `VideoDataset`.
        texts: captions (retrieval), or the options of all questions, one after the other (multiple choice).
        owners: the video of each text, of each question, or of each labelled row.
        labels: the class of each row, or the right option of each question.
    """

    videos: list[Row]
    owners: np.ndarray
    texts: list[str] | None = None
    labels: np.ndarray | None = None

    @property
    def num_texts(self) -> int | None:
        return None if self.texts is None else len(self.texts)


def _unique(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Row], np.ndarray]:
    """The clips of rows, each once, and the clip of each row."""
    numbers: dict[tuple, int] = {}
    keys = [(row["video"], row.get("start"), row.get("end"), row.get("num_frames")) for row in rows]
    owners = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
    return [dict(zip(("video", "start", "end", "num_frames"), key, strict=True)) for key in numbers], owners


def _rows(protocol: Protocol, data_root: Path, **options: Any) -> list[dict[str, Any]]:
    data = protocol.data
    only = None if data.only is None else data_root / data.only
    # A video that is not there is a damaged one, and counted.
    options |= {"layout": data.layout, "only": only, "check_files": False}
    return list(read_manifest(data_root / data.list, data_root, **options))


def _read_retrieval(protocol: Protocol, data_root: Path) -> Samples:
    rows = _rows(protocol, data_root, check_labels=False, allow_duplicates=True)
    _need(protocol, rows, "caption")
    videos, owners = _unique(rows)
    return Samples(videos, owners, [row["caption"] for row in rows])


def _read_classes(protocol: Protocol, data_root: Path) -> Samples:
    rows = _rows(protocol, data_root, labels=load_labels(protocol.data.labels))
    _need(protocol, rows, "label")
    videos, owners = _unique(rows)
    return Samples(videos, owners, labels=np.array([row["label"] for row in rows]))


def _read_questions(protocol: Protocol, data_root: Path) -> Samples:
    data = protocol.data
    options = {"leave_out": data.leave_out, "check_files": False}
    rows = list(read_questions(data_root / data.list, data_root, data.layout, **options))
    if len({len(row["options"]) for row in rows}) > 1:
        raise RecipeError(f"{data.list} has questions with different numbers of options. Split it.")
    videos, owners = _unique(rows)
    texts = [option for row in rows for option in row["options"]]
    return Samples(videos, owners, texts, np.array([row["answer"] for row in rows]))


def _need(protocol: Protocol, rows: Sequence[Mapping[str, Any]], column: str) -> None:
    if any(row[column] is None for row in rows):
        raise RecipeError(f"{protocol.data.list} has rows without a {column}, which {protocol.task} needs. Add it.")


READERS = {"retrieval": _read_retrieval, "zero_shot": _read_classes, "multiple_choice": _read_questions}


# ---- the model ------------------------------------------------------------------------------------------------------


class _Clips(Dataset):
    """Clips by number; in the place of a damaged one, why it is."""

    def __init__(self, dataset: VideoDataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> torch.Tensor | str:
        try:
            return self.dataset[index]["pixel_values_videos"]
        except VideoDecodeError as error:
            return str(error)


@dataclass(frozen=True)
class Encoder:
    """A dual encoder, with the pixels and texts of a protocol."""

    protocol: Protocol
    model: PreTrainedModel
    processor: InternVideoProcessor
    device: torch.device
    batch_size: int
    workers: int
    quiet: bool

    @classmethod
    def load(
        cls,
        protocol: Protocol,
        model: str | Path,
        device: str | torch.device | None,
        batch_size: int,
        workers: int,
        quiet: bool,
    ) -> "Encoder":
        """Load a model and its processor, and give the processor the protocol's options.

        Raises:
            RecipeError: if the protocol is for other models.
        """
        loaded, processor = load_strict(AutoModel, model).eval(), AutoProcessor.from_pretrained(model)
        family = loaded.config.model_type
        if family != protocol.family:
            raise RecipeError(
                f"This protocol is for {protocol.family}, and {model} holds {family}. `internvideo evaluate --list` "
                f"shows others; family={family} takes it all the same."
            )
        if getattr(loaded.config, "projection_dim", None) is None or not hasattr(loaded, "get_text_features"):
            raise RecipeError(f"{model} has no space that videos and texts share. Give a model that compares them.")
        longest = processor.tokenizer.model_max_length
        if protocol.text_length > longest:
            raise RecipeError(
                f"The protocol reads texts of {protocol.text_length} tokens, and {model} at most {longest}. Set "
                f"text_length={longest} to cut them there."
            )
        for name, value in protocol.processor.items():
            setattr(processor.video_processor, name, value)
        device = default_device(device)
        return cls(protocol, loaded.to(device), processor, device, batch_size, workers, quiet)

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def factor(self) -> float:
        """What stands in front of the cosine."""
        return self.model.logit_scale.float().exp().item() if self.protocol.factor == "model" else 1.0

    @torch.no_grad()
    def embed_videos(self, rows: Sequence[Row], max_damaged: float) -> tuple[torch.Tensor, dict[int, str]]:
        """Decode and embed videos.

        Returns:
            Embeddings of length 1, `(videos, dim)`, zero where a video is damaged; and why those are, by number.

        Raises:
            TooManyFailuresError: if there are more of them than that share.
        """
        rule = self.processor.video_processor
        settings = SampleSettings(
            num_frames=rule.num_frames,
            sampler=rule.sampler,
            sampler_options=dict(rule.sampler_kwargs),
            view="processor",
            view_options={"processor": rule},
            backend=rule.decoder,
        )
        loader = DataLoader(
            _Clips(VideoDataset(rows, settings)),
            batch_size=self.batch_size,
            num_workers=self.workers,
            collate_fn=list,
            pin_memory=False,
        )
        embeds, damaged = torch.zeros(len(rows), self.model.config.projection_dim), {}
        with tqdm(total=len(rows), desc="Embedding videos", unit="video", disable=self.quiet) as bar:
            for first, clips in zip(range(0, len(rows), self.batch_size), loader, strict=True):
                damaged |= {first + place: clip for place, clip in enumerate(clips) if isinstance(clip, str)}
                if len(damaged) > max_damaged * len(rows):
                    raise TooManyFailuresError(
                        f"{len(damaged)} of the first {first + len(clips)} videos cannot be read, and of all "
                        f"{len(rows)}, {max_damaged:.4g} may be damaged. The last is {list(damaged.values())[-1]} "
                        "`internvideo scan` finds them all."
                    )
                if whole := [place for place, clip in enumerate(clips) if not isinstance(clip, str)]:
                    pixels = torch.stack([clips[place] for place in whole]).to(self.device, self.model.dtype)
                    found = self.model.get_video_features(pixels).pooler_output.float()
                    embeds[[first + place for place in whole]] = normalize(found, dim=-1).cpu()
                bar.update(len(clips))
        return embeds, damaged

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str], rule: str | None) -> torch.Tensor:
        """Embed texts, each different one once.

        Args:
            rule: how they are cleaned first, a name in `internvideo_hf.recipes.captions`.

        Returns:
            Embeddings of length 1, `(texts, dim)`.
        """
        if rule is not None:
            texts = [clean_caption(text, rule) for text in texts]
        numbers: dict[str, int] = {}
        places = [numbers.setdefault(text, len(numbers)) for text in texts]
        embeds = []
        with tqdm(total=len(numbers), desc="Embedding texts", unit="text", disable=self.quiet) as bar:
            for chunk in _chunks(list(numbers), TEXTS_AT_ONCE):
                options = {"truncation": True, "max_length": self.protocol.text_length, "return_tensors": "pt"}
                inputs = self.processor(text=chunk, **options).to(self.device)
                embeds.append(self.model.get_text_features(**inputs).pooler_output.float().cpu())
                bar.update(len(chunk))
        return normalize(torch.cat(embeds), dim=-1)[places]


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


# ---- scores ---------------------------------------------------------------------------------------------------------


def _score_retrieval(
    protocol: Protocol, encoder: Encoder, samples: Samples, embeds: torch.Tensor, damaged: list[int]
) -> dict[str, Any]:
    texts = encoder.embed_texts(samples.texts, protocol.caption_rule)
    similarity = (encoder.factor * texts @ embeds.T).numpy()
    return retrieval_metrics(similarity, samples.owners, missing=damaged, several=protocol.several)


def _score_classes(
    protocol: Protocol, encoder: Encoder, samples: Samples, embeds: torch.Tensor, damaged: list[int]
) -> dict[str, Any]:
    prompts, labels = load_prompts()[protocol.prompts], load_labels(protocol.data.labels)
    sentences = [template.replace("{}", label) for template in prompts.templates for label in labels]
    texts = encoder.embed_texts(sentences, prompts.clean).unflatten(0, (len(prompts.templates), len(labels)))
    scores = torch.cat(
        [zero_shot_scores(chunk, texts, encoder.factor, prompts.mean_of)[0] for chunk in embeds.split(VIDEOS_AT_ONCE)]
    )
    merged = _merged(samples, scores[samples.owners], damaged)
    top1, top5 = (100 * top_k_accuracy(merged, k) for k in (1, 5))
    return {"top-1": top1, "top-5": top5, "mean": (top1 + top5) / 2}


def _score_choices(
    protocol: Protocol, encoder: Encoder, samples: Samples, embeds: torch.Tensor, damaged: list[int]
) -> dict[str, Any]:
    texts = encoder.embed_texts(samples.texts, protocol.caption_rule).unflatten(0, (len(samples.owners), -1))
    scores = encoder.factor * torch.einsum("qd,qod->qo", embeds[samples.owners], texts)
    return {"top-1": 100 * top_k_accuracy(_merged(samples, scores, damaged), 1)}


def _merged(samples: Samples, scores: torch.Tensor, damaged: list[int]) -> Merged:
    """Scores `(rows, choices)` with what failed, which `top_k_accuracy` counts as wrong."""
    if not torch.isfinite(scores).all():
        raise ValueError("The scores are not finite: the model's weights are damaged. Convert or download it again.")
    failed = np.isin(samples.owners, damaged)
    names = [str(samples.videos[owner]["video"]) for owner in samples.owners]
    return Merged(names, samples.labels, np.where(failed[:, None], np.nan, scores.double().numpy()), failed)


SCORERS = {"retrieval": _score_retrieval, "zero_shot": _score_classes, "multiple_choice": _score_choices}
