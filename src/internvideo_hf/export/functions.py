"""The functions of a model that are exported: modules from tensors to tensors, with real inputs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.models.common.classification import VideoClassifier
from internvideo_hf.models.common.exported.manifest import BATCH, Port
from internvideo_hf.models.common.exported.modeling import CAPTION, HEAD, TEXT, VIDEO

_ENCODED = ("pooler_output", "last_hidden_state")
_FEWEST = 4  # frames; fewer would be traced as a case of their own
_LONGEST = 1 << 16  # frames or positions


@dataclass(frozen=True)
class Axis:
    """An axis of inputs that has any length, besides that of the batch.

    Args:
        name: of the axis; two inputs with the same name have the same length.
        least: the shortest length.
        longest: the longest length.
        step: of which every length is a multiple.
    """

    name: str
    least: int
    longest: int
    step: int = 1

    def __str__(self) -> str:
        return self.name if self.step == 1 else f"{self.step}*{self.name}"


@dataclass(frozen=True)
class Traceable:
    """A function of a model, and inputs for it.

    Args:
        name: of the function.
        module: takes the inputs in their order, and returns the outputs in theirs.
        inputs: real ones by name, the batch first; two rows or more.
        outputs: names.
        variable: input -> its axes of any length besides the batch, by the number of the axis.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, torch.Tensor]
    outputs: tuple[str, ...]
    variable: Mapping[str, Mapping[int, Axis]] = field(default_factory=dict)

    @torch.no_grad()
    def reference(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Compute the outputs in torch, by name.

        Args:
            inputs: by name.
        """
        return dict(zip(self.outputs, self.module(*(inputs[name] for name in self.inputs)), strict=True))

    @cached_property
    def examples(self) -> list[tuple[Mapping[str, torch.Tensor], dict[str, torch.Tensor]]]:
        """The inputs, and those cut to the shortest lengths of axes that vary, each with its outputs in torch."""
        shortest = dict(self.inputs)
        for name, axes in self.variable.items():
            for number, axis in axes.items():
                shortest[name] = shortest[name].narrow(number, 0, axis.least).contiguous()
        return [(inputs, self.reference(inputs)) for inputs in (self.inputs, *([shortest] if self.variable else []))]

    def ports(self) -> tuple[dict[str, Port], dict[str, Port]]:
        """Return the inputs and the outputs as a manifest describes them."""
        inputs, names = {}, {}
        for name, tensor in self.inputs.items():
            shape: list[int | str] = [BATCH, *tensor.shape[1:]]
            for number, axis in self.variable.get(name, {}).items():
                shape[number] = names[tensor.shape[number]] = str(axis)
            inputs[name] = Port(tuple(shape), str(tensor.dtype).removeprefix("torch."))
        (_, outputs), (_, shortest) = self.examples[0], self.examples[-1]
        described = {}
        for name, tensor in outputs.items():
            lengths = zip(tensor.shape[1:], shortest[name].shape[1:], strict=True)
            rest = (long if long == short else names.get(long, f"{name} length") for long, short in lengths)
            described[name] = Port((BATCH, *rest))
        return inputs, described


class _Function(nn.Module):
    """A function of a model, with its outputs in a fixed order.

    Args:
        model: whose function it is.
        names: of the inputs.
        outputs: names.
    """

    def __init__(self, model: Any, names: Sequence[str], outputs: Sequence[str]):
        super().__init__()
        self.model, self.names, self.outputs = model, tuple(names), tuple(outputs)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the outputs."""
        found = self.compute(**dict(zip(self.names, inputs, strict=True)))
        return tuple(found[name] for name in self.outputs)

    def compute(self, **inputs: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Compute the outputs by name, and others."""
        found: Mapping[str, torch.Tensor] = self.model(**inputs, return_dict=True)
        return found


class _Classifier(_Function):
    """A classifier and its encoder, which then runs once for both."""

    def compute(self, **inputs: torch.Tensor) -> Mapping[str, torch.Tensor]:
        encoded = self.model.encoder(**inputs, return_dict=True)
        return {**encoded, **self.model.result(self.model.classify(encoded), None)}


class _Videos(_Function):
    """The video tower, with its projection."""

    def compute(self, **inputs: torch.Tensor) -> Mapping[str, torch.Tensor]:
        found: Mapping[str, torch.Tensor] = self.model.get_video_features(**inputs, return_dict=True)
        return found


class _Texts(_Function):
    """The text tower, with its projection."""

    def compute(self, **inputs: torch.Tensor) -> Mapping[str, torch.Tensor]:
        found: Mapping[str, torch.Tensor] = self.model.get_text_features(**inputs, return_dict=True)
        return found


class _Visual(_Function):
    """The video tower, with its projection and the tokens that a caption decoder reads."""

    def compute(self, **inputs: torch.Tensor) -> Mapping[str, torch.Tensor]:
        found = self.model.get_video_features(**inputs, return_dict=True)
        (pixels,) = inputs.values()
        return {**found, "visual_tokens": self.model._pool_tokens(found["last_hidden_state"], pixels)}


class _Caption(_Function):
    """The scores of the token that follows."""

    def compute(self, **inputs: torch.Tensor) -> Mapping[str, torch.Tensor]:
        found = self.model(**inputs, logits_to_keep=1, use_cache=False, return_dict=True)
        return {"logits": found["logits"][:, -1]}


class _Head(_Function):
    """A head on padded features, whose levels follow each other along the positions."""

    def compute(self, **inputs: torch.Tensor) -> Mapping[str, torch.Tensor]:
        found = self.model(**inputs, return_dict=True)
        return {name: torch.cat(found[name], dim=1) for name in self.outputs}


def functions_of(
    model: PreTrainedModel, kind: str, clips: Mapping[str, torch.Tensor], texts: torch.Tensor | None
) -> list[Traceable]:
    """Return the functions of a model that are exported.

    Args:
        model: in evaluation mode.
        kind: its `export_kind`.
        clips: real inputs by name, `(clips, frames, channels, height, width)`; two clips or more. Of a head those of
            `drawn_features`.
        texts: token ids of real texts, `(texts, tokens)`; None for a model without texts.
    """
    frames = _frames_of(model, clips)
    if kind == "encoder":
        return [_traceable(VIDEO, _Function, model, clips, _ENCODED, frames)]
    if kind == "classifier":
        fields: Any = vars(model.output_class)["__dataclass_fields__"]
        scores = [name for name in ("logits", "uncertainty") if name in fields]
        if isinstance(model, VideoClassifier):
            return [_traceable(VIDEO, _Classifier, model, clips, (*scores, *_ENCODED), frames)]
        return [_traceable(VIDEO, _Function, model, clips, scores, frames)]
    if kind == "localizer":
        return [_traceable(HEAD, _Head, model, clips, ("logits", "offsets"), _lengths_of(model.config, clips))]
    assert texts is not None  # its processor has a tokenizer
    longest = model.config.text_config.max_position_embeddings
    tokens_of = {"input_ids": {1: Axis("tokens", 2, longest)}}
    text = _traceable(TEXT, _Texts, model, {"input_ids": texts}, _ENCODED, tokens_of)
    if kind == "dual_encoder":
        return [_traceable(VIDEO, _Videos, model, clips, _ENCODED, frames), text]
    video = _traceable(VIDEO, _Visual, model, clips, (*_ENCODED, "visual_tokens"), frames)
    tokens = video.reference(clips)["visual_tokens"]
    begun = {"visual_tokens": tokens, "input_ids": texts[:, :-1].contiguous()}  # a view's strides would bind the trace
    return [video, text, _traceable(CAPTION, _Caption, model, begun, ("logits",), tokens_of)]


def _frames_of(model: Any, clips: Mapping[str, torch.Tensor]) -> dict[str, dict[int, Axis]]:
    """Return the axes of frames, of clips with any number of them; none where the number is fixed."""
    step = model.frames_step() if len(clips) == 1 else None
    frames = next(iter(clips.values())).shape[1]
    if step is None or frames < _FEWEST or frames % step:
        return {}
    return {name: {1: Axis("frames", _FEWEST, _LONGEST, step)} for name in clips}


def _lengths_of(config: Any, features: Mapping[str, torch.Tensor]) -> dict[str, dict[int, Axis]]:
    """Return the axes of positions, of features of any padded length; none where the examples have the shortest."""
    shortest = config.padded_length(1)
    if features["features"].shape[1] == shortest:
        return {}
    step = math.gcd(shortest, config.length_multiple)
    return {name: {1: Axis("length", shortest, _LONGEST // step * step, step)} for name in features}


def _traceable(
    name: str,
    function: type[_Function],
    model: PreTrainedModel,
    inputs: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    variable: Mapping[str, Mapping[int, Axis]] | None = None,
) -> Traceable:
    module = function(model, tuple(inputs), outputs).eval()
    return Traceable(name, module, inputs, tuple(outputs), variable or {})
