"""The functions of a model that are exported: modules from tensors to tensors, with real inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.models.common.classification import VideoClassifier
from internvideo_hf.models.common.exported.manifest import BATCH, Port
from internvideo_hf.models.common.exported.modeling import CAPTION, HEAD, TEXT, VIDEO

_ENCODED = ("pooler_output", "last_hidden_state")


@dataclass(frozen=True)
class Traceable:
    """A function of a model, and inputs for it.

    Args:
        name: of the function.
        module: takes the inputs in their order, and returns the outputs in theirs.
        inputs: real ones by name, the batch first; two rows or more.
        outputs: names.
        variable: input -> its axes of any length besides the batch: number of the axis -> name and longest length.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, torch.Tensor]
    outputs: tuple[str, ...]
    variable: Mapping[str, Mapping[int, tuple[str, int]]] = field(default_factory=dict)

    @torch.no_grad()
    def reference(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Compute the outputs in torch, by name.

        Args:
            inputs: by name.
        """
        return dict(zip(self.outputs, self.module(*(inputs[name] for name in self.inputs)), strict=True))

    def ports(self) -> tuple[dict[str, Port], dict[str, Port]]:
        """Return the inputs and the outputs as a manifest describes them."""
        labels, inputs = {}, {}
        for name, tensor in self.inputs.items():
            shape: list[int | str] = [BATCH, *tensor.shape[1:]]
            for axis, (label, _) in self.variable.get(name, {}).items():
                shape[axis], labels[tensor.shape[axis]] = label, label
            inputs[name] = Port(tuple(shape), str(tensor.dtype).removeprefix("torch."))
        outputs = {
            name: Port((BATCH, *(labels.get(length, length) for length in tensor.shape[1:])))
            for name, tensor in self.reference(self.inputs).items()
        }
        return inputs, outputs


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
    """A head on features, whose levels follow each other along the positions."""

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
    if kind == "encoder":
        return [_traceable(VIDEO, _Function, model, clips, _ENCODED)]
    if kind == "classifier":
        fields: Any = vars(model.output_class)["__dataclass_fields__"]
        scores = [name for name in ("logits", "uncertainty") if name in fields]
        if isinstance(model, VideoClassifier):
            return [_traceable(VIDEO, _Classifier, model, clips, (*scores, *_ENCODED))]
        return [_traceable(VIDEO, _Function, model, clips, scores)]
    if kind == "localizer":
        return [_traceable(HEAD, _Head, model, clips, ("logits", "offsets"))]
    assert texts is not None  # its processor has a tokenizer
    longest = model.config.text_config.max_position_embeddings
    variable = {"input_ids": {1: ("tokens", longest)}}
    text = _traceable(TEXT, _Texts, model, {"input_ids": texts}, _ENCODED, variable)
    if kind == "dual_encoder":
        return [_traceable(VIDEO, _Videos, model, clips, _ENCODED), text]
    video = _traceable(VIDEO, _Visual, model, clips, (*_ENCODED, "visual_tokens"))
    tokens = video.reference(clips)["visual_tokens"]
    begun = {"visual_tokens": tokens, "input_ids": texts[:, :-1].contiguous()}  # a view's strides would bind the trace
    return [video, text, _traceable(CAPTION, _Caption, model, begun, ("logits",), variable)]


def _traceable(
    name: str,
    function: type[_Function],
    model: PreTrainedModel,
    inputs: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    variable: Mapping[str, Mapping[int, tuple[str, int]]] | None = None,
) -> Traceable:
    module = function(model, tuple(inputs), outputs).eval()
    return Traceable(name, module, inputs, tuple(outputs), variable or {})
