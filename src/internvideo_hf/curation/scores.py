"""Scores of clips: how well the caption fits, and how the frames look."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel

from internvideo_hf.checkpoints.model_names import resolve_model
from internvideo_hf.curation.captions import model_fingerprint
from internvideo_hf.curation.stages import Outcome, Row
from internvideo_hf.data.failures import one_video
from internvideo_hf.data.thumbnails import spread_pictures
from internvideo_hf.inference.embedder import Embedder
from internvideo_hf.inference.runner import load_model, read_views, stack_views
from internvideo_hf.utils.fingerprints import file_sha256
from internvideo_hf.utils.names import reason_of
from internvideo_hf.utils.pretrained import load_pretrained
from internvideo_hf.video.errors import VideoDecodeError

_DIGITS = 6  # of a score, behind the point
_THREADS = 4  # that decode


@dataclass(frozen=True)
class Similarity:
    """The stage that gives each clip `similarity`: the cosine of the embeddings of clip and caption.

    InternVid's own score is that of a UMT; this one is of the same kind, by a model of this package.

    Args:
        folder: of the build.
        model: a model of video and text.
        device: where it runs.
        dtype: number type of its weights; as saved if None.
    """

    folder: Path
    model: str
    device: Any = None
    dtype: str | None = None
    name: str = "similarity"
    rows_per_shard: int = 16
    runs_model: bool = True

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The fingerprint of the model."""
        return {"model": model_fingerprint(self.model), "dtype": self.dtype}

    @cached_property
    def embedder(self) -> Embedder:
        """The model, loaded at the first use."""
        embedder = Embedder(self.model, self.device, dtype=self.dtype)
        if embedder.text_problem is not None:
            raise ValueError(f"{self.model}: {embedder.text_problem} Give another --similarity.")
        return embedder

    def on_device(self, device: Any) -> "Similarity":
        """Return the stage for a worker, with nothing loaded."""
        return replace(self, device=device)

    def load(self) -> None:
        """Load the model, whose mistakes are none of a clip's."""
        _ = self.embedder

    def run(self, rows: Sequence[Row]) -> list[Outcome]:
        """Return the rows with `similarity`; captions that are too long are cut."""
        read = partial(_read, folder=self.folder, processor=self.embedder.video_processor)
        with ThreadPoolExecutor(_THREADS) as pool:
            views = list(pool.map(read, rows))
        good = [(number, own) for number, own in enumerate(views) if not isinstance(own, VideoDecodeError)]
        if not good:
            return [own for own in views if isinstance(own, VideoDecodeError)]
        texts = self.embedder.embed_texts([rows[number]["caption"] for number, _ in good], truncation=True)
        text_of = dict(zip((number for number, _ in good), texts, strict=True))
        scores: dict[int, float] = {}
        for places, inputs in stack_views(good):
            videos = self.embedder.embed_clips(inputs["pixel_values_videos"])
            scores |= {number: float(video @ text_of[number]) for number, video in zip(places, videos, strict=True)}
        return [
            own if isinstance(own, VideoDecodeError) else {**row, "similarity": round(scores[number], _DIGITS)}
            for number, (row, own) in enumerate(zip(rows, views, strict=True))
        ]

    def files(self, row: Row) -> list[Path]:
        """Return nothing: no file is written."""
        return []


class AestheticHead:
    """Linear layers, one after the other, on CLIP's unit embeddings: the layout of LAION's aesthetic predictors.

    Their first version is one layer (`weight`, `bias`), their second several (`layers.0.weight` ...), with nothing
    between them. Any other callable of the same kind can take its place.

    Args:
        path: a .safetensors file, or a .pth file, of which nothing but tensors is read.

    Raises:
        ValueError: if the file holds no such layers.
    """

    def __init__(self, path: str | Path):
        try:
            is_safe = Path(path).suffix == ".safetensors"
            tensors = load_file(path) if is_safe else torch.load(path, map_location="cpu", weights_only=True)
            names = sorted((name for name in tensors if name.endswith("weight")), key=_number_of)
            self.layers = [
                (tensors[name].float(), tensors[f"{name.removesuffix('weight')}bias"].float()) for name in names
            ]
        except Exception as error:  # a file of another kind raises all kinds
            raise ValueError(f"{path} holds no aesthetic head ({reason_of(error)}). Give LAION's file.") from error
        sizes = [tuple(weight.shape) for weight, _ in self.layers]
        fits = all(len(size) == 2 for size in sizes) and all(
            a[0] == b[1] for a, b in zip(sizes, sizes[1:], strict=False)
        )
        if not sizes or not fits or sizes[-1][0] != 1:
            raise ValueError(f"{path}: its layers are {sizes}, expected a chain that ends in 1. Give LAION's file.")
        self.dim = sizes[0][1]

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Return the scores, `(pictures,)`, of unit embeddings `(pictures, dim)`."""
        for weight, bias in self.layers:
            features = torch.nn.functional.linear(features, weight, bias)
        return features[:, 0]


def _number_of(name: str) -> int:
    digits = "".join(character for character in name if character.isdigit())
    return int(digits) if digits else 0


@dataclass(frozen=True)
class Aesthetics:
    """The stage that gives each clip `aesthetic_score`: the mean over some of its frames.

    Args:
        folder: of the build.
        clip: a CLIP of transformers; LAION's heads are for openai/clip-vit-large-patch14.
        head: file of the head, see `AestheticHead`.
        frames: of a clip, at least 1.
        device: where the model runs.
        dtype: number type of its weights; as saved if None.
    """

    folder: Path
    clip: str
    head: Path
    frames: int = 1
    device: Any = None
    dtype: str | None = None
    name: str = "aesthetics"
    rows_per_shard: int = 64
    runs_model: bool = True

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The fingerprints of model and head, and the number of frames."""
        model = model_fingerprint(self.clip)
        return {"model": model, "head": file_sha256(self.head), "frames": self.frames, "dtype": self.dtype}

    @cached_property
    def _parts(self) -> tuple[Any, Any, AestheticHead]:
        name, head = resolve_model(self.clip), AestheticHead(self.head)
        model = load_model(AutoModel, name, self.device, self.dtype)
        if not hasattr(model, "get_image_features") or model.config.projection_dim != head.dim:
            raise ValueError(f"{self.clip} has no image embeddings of {head.dim} numbers, as the head takes them.")
        return model, load_pretrained(AutoImageProcessor, name), head

    def on_device(self, device: Any) -> "Aesthetics":
        """Return the stage for a worker, with nothing loaded."""
        return replace(self, device=device)

    def load(self) -> None:
        """Load the models, whose mistakes are none of a clip's."""
        _ = self._parts

    @torch.no_grad()
    def run(self, rows: Sequence[Row]) -> list[Outcome]:
        """Return the rows with `aesthetic_score`."""
        with ThreadPoolExecutor(_THREADS) as pool:
            found = list(pool.map(self._pictures, rows))
        pictures = [picture for own in found if not isinstance(own, VideoDecodeError) for picture in own]
        scores = iter(self._scores(pictures).reshape(-1, self.frames).mean(1).tolist() if pictures else ())
        return [
            own if isinstance(own, VideoDecodeError) else {**row, "aesthetic_score": round(next(scores), _DIGITS)}
            for row, own in zip(rows, found, strict=True)
        ]

    def files(self, row: Row) -> list[Path]:
        """Return nothing: no file is written."""
        return []

    def _scores(self, pictures: Sequence[Any]) -> torch.Tensor:
        model, processor, head = self._parts
        pixels = processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        features = model.get_image_features(pixel_values=pixels.to(model.device, model.dtype)).pooler_output
        return head(torch.nn.functional.normalize(features.float().cpu(), dim=-1))

    def _pictures(self, row: Row) -> Any:
        try:
            with one_video(row["clip"]):
                return spread_pictures(str(self.folder / row["clip"]), self.frames)
        except VideoDecodeError as error:
            return error


def _read(row: Row, folder: Path, processor: Any) -> Any:
    try:
        with one_video(row["clip"]):
            if row["caption"] is None:
                raise VideoDecodeError(row["clip"], "it has no caption", "Give a captioner (--captioner).")
            return read_views({"video": str(folder / row["clip"])}, processor)
    except VideoDecodeError as error:
        return error
