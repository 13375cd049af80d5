"""Captions of clips by models of transformers: coarse, of the middle frame, or fine, a summary of frames' captions.

InternVid's captions come of two scales: BLIP-2 describes the middle frame, and Tag2Text describes frames one by one,
which a language model makes into one text. Here both are pipelines of transformers: any model of "image-text-to-text",
and any of "text-generation". A captioner of this package describes the clip as a whole instead.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from transformers import AutoConfig, AutoModelForMultimodalLM, AutoProcessor, pipeline

from internvideo_hf.auto import FAMILIES
from internvideo_hf.checkpoints.model_names import resolve_model
from internvideo_hf.curation.stages import Outcome, Row
from internvideo_hf.data.failures import one_video
from internvideo_hf.data.thumbnails import spread_pictures
from internvideo_hf.inference.runner import load_model
from internvideo_hf.utils.devices import DTYPES, default_device
from internvideo_hf.utils.fingerprints import ends_sha256, json_sha256
from internvideo_hf.utils.names import lookup
from internvideo_hf.utils.pretrained import check_model_folder, load_pretrained
from internvideo_hf.video.errors import VideoDecodeError

_ENDS = 1 << 20  # bytes at each end of a file of weights that its fingerprint reads
_THREADS = 4  # that decode
_IS_PART = (".json", ".txt", ".model", ".jinja", ".safetensors", ".bin")


class Captioner(Protocol):
    """What describes clips: `PictureCaptioner`, `VideoCaptioner`, or one of your own."""

    def describe(self, clips: Sequence[Path]) -> list[dict[str, str] | VideoDecodeError]:
        """Return for each clip its `caption` and the texts that it is made of, or why it has none."""


def model_fingerprint(model: str | Path) -> str:
    """Return a hash of a model's files: settings whole, weights by size and ends; of a name on the Hub, its commit.

    Args:
        model: a folder, or a name on the Hub.
    """
    folder = Path(resolve_model(model))
    if folder.is_dir():
        files = sorted(file for file in folder.iterdir() if file.suffix in _IS_PART)
        return json_sha256([[file.name, ends_sha256(file, _ENDS)] for file in files])[:32]
    config = load_pretrained(AutoConfig, str(model))
    return f"{model}@{getattr(config, '_commit_hash', None)}"


def load_captioning_pipeline(task: str, model: str | Path, device: Any = None, dtype: str | None = None) -> Any:
    """Load a pipeline of transformers, without code from the model's folder.

    Args:
        task: of transformers, such as "image-text-to-text".
        model: a folder, or a name on the Hub.
        device: where it runs; the accelerator if there is one.
        dtype: number type of its weights, see `DTYPES`; as saved if None.
    """
    name = resolve_model(model)
    check_model_folder(name)
    number_type = "auto" if dtype is None else lookup(DTYPES, dtype, "dtype")
    kwargs: dict[str, Any] = {"device": default_device(device), "dtype": number_type, "trust_remote_code": False}
    return pipeline(task, model=name, **kwargs)  # type: ignore[call-overload]  # its stub knows literal tasks


@dataclass(frozen=True)
class CaptionSettings:
    """How clips are described.

    Args:
        model: of "image-text-to-text", such as BLIP-2 or a chat model that sees; or an InternVideo-MM with its caption
            decoder, which sees the whole clip.
        summarizer: of "text-generation"; it makes one text of the captions of `frames` frames. None: the caption is
            that of the middle frame.
        frames: of a clip for the summarizer, at least 2.
        prompt: what a chat model is asked about a frame; other models are asked nothing.
        summary_prompt: what the summarizer is asked; `{captions}` stands for the captions, a line each.
        max_new_tokens: the most tokens of a text.

    Raises:
        ValueError: if a number is out of range, or `summary_prompt` lacks `{captions}`.
    """

    model: str
    summarizer: str | None = None
    frames: int = 8
    prompt: str = "Describe this frame of a video in one sentence."
    summary_prompt: str = (
        "These are captions of the frames of one video clip, in their order:\n{captions}\nDescribe the clip in one "
        "sentence, and say nothing about frames or captions."
    )
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        if self.frames < 2 or self.max_new_tokens < 1 or "{captions}" not in self.summary_prompt:
            raise ValueError(
                f"frames={self.frames}, max_new_tokens={self.max_new_tokens}: expected at least 2 frames and 1 token, "
                "and {captions} in summary_prompt"
            )


class PictureCaptioner:
    """Describes clips by their frames.

    Args:
        settings: models and texts.
        device: where the models run; the accelerator if there is one.
        dtype: number type of their weights, see `DTYPES`; as saved if None.
        batch_size: frames, or texts, per forward pass.
    """

    def __init__(self, settings: CaptionSettings, device: Any = None, dtype: str | None = None, batch_size: int = 8):
        self.settings, self.batch_size = settings, batch_size
        self._describe = load_captioning_pipeline("image-text-to-text", settings.model, device, dtype)
        self._summarize = None
        if settings.summarizer is not None:
            self._summarize = load_captioning_pipeline("text-generation", settings.summarizer, device, dtype)

    def describe(self, clips: Sequence[Path]) -> list[dict[str, str] | VideoDecodeError]:
        """Return `caption` of each clip; `coarse` and `fine` as well where frames are summarized."""
        count = 0 if self._summarize is None else self.settings.frames
        with ThreadPoolExecutor(_THREADS) as pool:
            found = list(pool.map(partial(_pictures, count=count), clips))
        pictures = [picture for own in found if isinstance(own, list) for picture in own]
        texts = iter(self._captions(pictures))
        by_clip = [[next(texts) for _ in own] if isinstance(own, list) else own for own in found]
        if self._summarize is None:
            return [own if isinstance(own, VideoDecodeError) else {"caption": own[0]} for own in by_clip]
        fine = iter(self._summaries([own[1:] for own in by_clip if isinstance(own, list)]))
        return [
            own
            if isinstance(own, VideoDecodeError)
            else {"caption": (text := next(fine)), "coarse": own[0], "fine": text}
            for own in by_clip
        ]

    def _captions(self, pictures: Sequence[Image.Image]) -> list[str]:
        options: dict[str, Any] = {"batch_size": self.batch_size, "max_new_tokens": self.settings.max_new_tokens}
        options["generate_kwargs"] = {
            "do_sample": False
        }  # the same caption each time, whatever the model's own setting
        if not pictures:
            return []
        if getattr(self._describe.processor, "chat_template", None) is None:
            answers = self._describe(images=list(pictures), text=[""] * len(pictures), **options)
        else:
            ask = {"type": "text", "text": self.settings.prompt}
            chats = [[{"role": "user", "content": [{"type": "image", "image": one}, ask]}] for one in pictures]
            answers = self._describe(text=chats, return_full_text=False, **options)
        return [_text_of(answer) for answer in answers]

    def _summaries(self, captions: Sequence[Sequence[str]]) -> list[str]:
        assert self._summarize is not None  # asked by the caller
        if not captions:
            return []
        texts = [self.settings.summary_prompt.replace("{captions}", "\n".join(own)) for own in captions]
        asked: list[Any] = texts
        if getattr(self._summarize.tokenizer, "chat_template", None) is not None:
            asked = [[{"role": "user", "content": text}] for text in texts]
        answers = self._summarize(
            asked, max_new_tokens=self.settings.max_new_tokens, return_full_text=False, do_sample=False
        )
        return [_text_of(answer) for answer in answers]


class VideoCaptioner:
    """Describes clips as a whole, by an InternVideo-MM with its caption decoder.

    Args:
        settings: the model; it has no summarizer.
        device: where the model runs; the accelerator if there is one.
        dtype: number type of its weights, see `DTYPES`; as saved if None.

    Raises:
        ValueError: if there is a summarizer, or the model has no decoder.
    """

    def __init__(self, settings: CaptionSettings, device: Any = None, dtype: str | None = None):
        if settings.summarizer is not None:
            raise ValueError(
                f"{settings.model} describes the whole clip, so there is nothing to summarize. Leave out summarizer "
                "(--summarizer)."
            )
        name = resolve_model(settings.model)
        model, processor = (
            load_model(AutoModelForMultimodalLM, name, device, dtype),
            load_pretrained(AutoProcessor, name),
        )
        kwargs: dict[str, Any] = {"model": model, "processor": processor, "device": model.device}
        self._pipeline: Any = pipeline("video-to-text", **kwargs)  # type: ignore[call-overload]
        self._options = {"max_new_tokens": settings.max_new_tokens}

    def describe(self, clips: Sequence[Path]) -> list[dict[str, str] | VideoDecodeError]:
        """Return `caption` of each clip."""
        return [self._describe(clip) for clip in clips]

    def _describe(self, clip: Path) -> dict[str, str] | VideoDecodeError:
        try:
            with one_video(str(clip)):
                return {"caption": _text_of(self._pipeline(str(clip), **self._options))}
        except VideoDecodeError as error:
            return error


@dataclass(frozen=True)
class Captions:
    """The stage that describes clips without a caption.

    Args:
        folder: of the build.
        captions: how.
        device: where the models run.
        dtype: number type of their weights; as saved if None.
    """

    folder: Path
    captions: CaptionSettings
    device: Any = None
    dtype: str | None = None
    name: str = "captions"
    rows_per_shard: int = 16
    runs_model: bool = True

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Texts, numbers, and the fingerprints of the models."""
        own = {name: getattr(self.captions, name) for name in ("frames", "prompt", "summary_prompt", "max_new_tokens")}
        models = [name for name in (self.captions.model, self.captions.summarizer) if name is not None]
        return {**own, "dtype": self.dtype, "models": [model_fingerprint(name) for name in models]}

    @cached_property
    def captioner(self) -> Captioner:
        """The models, loaded at the first use."""
        config = load_pretrained(AutoConfig, resolve_model(self.captions.model))
        if config.model_type in FAMILIES:
            return VideoCaptioner(self.captions, self.device, self.dtype)
        return PictureCaptioner(self.captions, self.device, self.dtype)

    def on_device(self, device: Any) -> "Captions":
        """Return the stage for a worker, with nothing loaded."""
        return replace(self, device=device)

    def load(self) -> None:
        """Load the models, whose mistakes are none of a clip's."""
        _ = self.captioner

    def run(self, rows: Sequence[Row]) -> list[Outcome]:
        """Return the rows with `caption`."""
        waiting = [row for row in rows if row["caption"] is None]
        answers = iter(self.captioner.describe([self.folder / row["clip"] for row in waiting]) if waiting else ())
        return [row if row["caption"] is not None else _described(row, next(answers)) for row in rows]

    def files(self, row: Row) -> list[Path]:
        """Return nothing: no file is written."""
        return []


def _described(row: Row, answer: dict[str, str] | VideoDecodeError) -> Outcome:
    if isinstance(answer, VideoDecodeError):
        return answer
    if not answer["caption"]:
        return VideoDecodeError(row["clip"], "the model wrote no caption", "Take another model or another prompt.")
    return {**row, **answer}


def _pictures(clip: Path, count: int) -> list[Image.Image] | VideoDecodeError:
    """Return the middle frame of a clip, and `count` frames that are spread over it."""
    try:
        with one_video(str(clip)):
            middle, spread = spread_pictures(str(clip), 1), spread_pictures(str(clip), count) if count else []
            return middle + spread
    except VideoDecodeError as error:
        return error


def _text_of(answer: Any) -> str:
    """Return the text of a pipeline's answer, in one line."""
    entry = answer[0] if isinstance(answer, list) else answer
    return " ".join(str(entry["generated_text"]).split())
