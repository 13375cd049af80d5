"""Base classes of the pipelines: one video or many, batches of views."""

import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers.pipelines.base import Pipeline
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator

from internvideo_hf.data.samples import PIXELS
from internvideo_hf.models.common.dual_encoder import comparison_problem
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.processing.video_processing import list_videos
from internvideo_hf.utils.names import did_you_mean, nearest, with_article


class VideoPipeline(Pipeline):
    """A pipeline over videos of every kind that `VideoReader` takes; each is decoded once for all its views.

    A subclass implements `_sanitize_parameters`, `_forward` (which receives each video input of the model, `(videos,
    views, frames, channels, height, width)`) and `postprocess` (one video's answer).
    """

    # transformers' stub infers the type None from the default.
    _load_processor = _load_tokenizer = _load_feature_extractor = False  # type: ignore[assignment]
    _load_image_processor = _load_video_processor = False  # type: ignore[assignment]

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Answer for one video, or for each of several.

        Args:
            inputs: one video, or a list, an iterator, a column or a dataset of videos; see `list_videos`.
            kwargs: options of the pipeline and of the video processor.
        """
        videos, is_one = list_videos(inputs)
        answers = Pipeline.__call__(self, videos, **kwargs) if videos else []
        return answers[0] if is_one else answers

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Save model and processor, which `pipeline(task, model=save_directory)` loads.

        transformers' own leaves out the processor, and copies the pipeline's code, which it then refuses to load.

        Args:
            save_directory: the folder.
            kwargs: options of saving the model and the processor, such as `push_to_hub`.
        """
        self.model.save_pretrained(save_directory, **kwargs)
        self._process.save_pretrained(save_directory, **kwargs)

    @property
    def _process(self) -> Any:
        return self.processor if self.processor is not None else self.video_processor

    def _processor_parameters(self, options: dict[str, Any], others: Iterable[str] = ()) -> dict[str, Any]:
        """Return the parameters of `preprocess`, after a check that the video processor has these options.

        Args:
            options: what is left when the pipeline has taken its own options.
            others: names of these, which a mistyped one may have meant.
        """
        known = set(getattr(self._process, "video_processor", self._process).valid_kwargs.__annotations__)
        for name in options:
            if name not in known:
                hint = did_you_mean(nearest(name, [*known, "top_k", "batch_size", *others]))
                raise TypeError(f"Unknown option {name}.{hint}")
        return options

    def preprocess(self, video: Any, **options: Any) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return inputs_of(video, self._process, options)

    def video_reader(self) -> Callable[[Any], dict[str, torch.Tensor]] | None:
        """Return what makes the inputs of a video, in any process; None where this takes the model."""
        return partial(inputs_of, processor=self._process, options=self._preprocess_params)

    def answer(self, inputs: dict[str, torch.Tensor]) -> Any:
        """Return the answer for one video, as a call does.

        Args:
            inputs: of `video_reader`.
        """
        return self.answer_batch([inputs])[0]

    def answer_batch(self, batch: Sequence[dict[str, torch.Tensor]], **options: Any) -> list[Any]:
        """Return the answers for several videos, from one forward pass.

        Args:
            batch: for each video what `video_reader` returns, of the same shapes.
            options: of a call, but for those of the processor.
        """
        sanitize: Any = self._sanitize_parameters  # untyped in transformers
        _, forward, postprocess = sanitize(**options)
        stacked = [_stack(batch)]
        outputs = PipelineIterator(stacked, self.forward, self._forward_params | forward, loader_batch_size=len(batch))
        return list(PipelineIterator(outputs, self.postprocess, self._postprocess_params | postprocess))

    def check_options(self, **options: Any) -> None:
        """Refuse invalid options of a call, before there is a video.

        Args:
            options: of a call.

        Raises:
            ValueError: if one is invalid.
            TypeError: if one is unknown.
        """
        sanitize: Any = self._sanitize_parameters
        sanitize(**options)

    def get_iterator(
        self,
        inputs: Sequence[Any],
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterable[Any]:
        # transformers' own collation handles texts and images only.
        loader = DataLoader(
            PipelineDataset(inputs, self.preprocess, preprocess_params),
            num_workers=num_workers,
            batch_size=batch_size,
            collate_fn=_stack,
            generator=torch.Generator(),  # or it would draw a number between a seed and the model's own
        )
        outputs = PipelineIterator(loader, self.forward, forward_params, loader_batch_size=batch_size)
        return PipelineIterator(outputs, self.postprocess, postprocess_params)


def inputs_of(video: Any, processor: Any, options: Mapping[str, Any], *, raw: bool = False) -> dict[str, Any]:
    """Decode a video, and make the inputs of a model, `(views, frames, channels, height, width)` by name.

    Args:
        video: of every kind that `VideoReader` takes.
        processor: of the model.
        options: of the video processor.
        raw: leave normalization to the process that takes them, where the processor can.
    """
    if raw:
        views_of: Callable[..., dict[str, Any]] = getattr(processor, "video_processor", processor).raw_inputs
        return views_of(video, **options)
    views = processor(videos=[video], return_tensors="pt", **options)
    return {name: views[name] for name in processor.model_input_names if name.endswith(PIXELS)}


class WholeVideoPipeline(VideoPipeline):
    """A pipeline over videos of any length, one after the other: each is a sequence of batches already.

    A subclass implements `preprocess`, `_forward` and `postprocess` for one video.
    """

    options: tuple[str, ...] = ("top_k", "threshold")
    """Names of the options of a call."""

    def _best_answers(self, top_k: int | None, threshold: float | None, unknown: dict[str, Any]) -> dict[str, Any]:
        """Return the options of a call that choose among answers, which `postprocess` takes.

        Args:
            top_k: answers to return; all if None.
            threshold: least score, 0-1.
            unknown: what is left when the pipeline has taken its own options, refused.
        """
        for name in unknown:
            raise TypeError(f"Unknown option {name}.{did_you_mean(nearest(name, self.options))}")
        chosen: dict[str, Any] = {} if top_k is None else {"top_k": check_count("top_k", top_k)}
        if threshold is not None:
            if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
                raise ValueError(f"threshold={threshold!r}, expected a score between 0 and 1.")
            chosen["threshold"] = threshold
        return chosen

    def get_iterator(
        self,
        inputs: Sequence[Any],
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterable[Any]:
        for video in inputs:
            inputs_of_model: Any = self.preprocess(video, **preprocess_params)
            outputs: Any = self._forward(inputs_of_model, **forward_params)
            yield self.postprocess(outputs, **postprocess_params)


class DualEncoderPipeline(VideoPipeline):
    """A pipeline over videos and texts, with any model that embeds both in one space."""

    _load_processor = True
    processor: InternVideoProcessor

    def __init__(self, model: Any, *args: Any, **kwargs: Any):
        _check_dual_encoder(model)
        super().__init__(model, *args, **kwargs)
        _check_dual_encoder(self.model, self.processor.tokenizer)


def _check_dual_encoder(model: Any, tokenizer: Any = None) -> None:
    problem = comparison_problem(model, tokenizer)
    if problem is not None:
        raise ValueError(problem)


def check_saved_as(model: Any, kind: str) -> None:
    """Refuse a model out of the folder of another class, whose head transformers has initialized randomly.

    Args:
        model: of a pipeline.
        kind: end of the class's name, such as "ForQuestionAnswering".

    Raises:
        ValueError: if `config.architectures` names a class with another end.
    """
    saved = (model.config.architectures or [kind])[0]
    if not saved.endswith(kind):
        raise ValueError(
            f"The model's folder holds {with_article(saved)}, expected a model that ends in {kind}: the head would be "
            "random. Convert a released file of that kind; of a model that you have trained, set config.architectures."
        )


def check_count(name: str, count: int) -> int:
    """Return an option that is a number of things; refuse one below 1.

    Args:
        name: of the option.
        count: its value.
    """
    if not isinstance(count, numbers.Integral) or isinstance(count, bool):
        raise ValueError(f"{name}={count!r} must be a whole number.")
    if count < 1:
        raise ValueError(f"{name}={count} must be at least 1.")
    return int(count)


def _stack(items: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}
