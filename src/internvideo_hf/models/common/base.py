"""The base class of all models."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import initialization as init

from internvideo_hf.models.common.exported.manifest import download_export, is_exported
from internvideo_hf.models.common.layer_groups import LayerGroups


class VideoPreTrainedModel(LayerGroups):
    """State once what every family supports; a class that differs overrides the flag.

    Attributes:
        export_kind: what an exported folder is to hold that takes the place of the class, a name in
            `exported.modeling.KINDS`; None where the class is not exported.
    """

    export_kind: ClassVar[str | None] = None
    main_input_name = "pixel_values_videos"
    input_modalities = ["video"]
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a model; see transformers' `PreTrainedModel.from_pretrained`.

        Args:
            pretrained_model_name_or_path: see there; of a folder that `internvideo export` wrote, also on the
                Hub, the exported model.
            args: see there.
            kwargs: see there.
        """
        source = pretrained_model_name_or_path
        if not is_exported(source):
            try:
                return super().from_pretrained(source, *args, **kwargs)
            except OSError:  # it has no weights
                if (source := download_export(source, kwargs)) is None:
                    raise
        from internvideo_hf.models.common.exported.modeling import load_exported  # late: it is rarely needed

        return load_exported(cls, source, **kwargs)

    def frames_step(self) -> int | None:
        """Return the number whose multiples an exported model takes as frames of a clip.

        None for the number that it is exported for alone: the place of each frame has an embedding, re-sampled for it.
        """
        return None

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize a module as transformers does, or as `init_weight_with` says."""
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if (function := getattr(module, "weight_init", None)) is not None:
            function(module.weight)


def init_weight_with(function: Callable[[torch.Tensor], torch.Tensor], *layers: nn.Module) -> None:
    """Name the function that initializes a layer's weight.

    The layer has to say so itself: where only some tensors are missing from a checkpoint, transformers calls
    `_init_weights` for the modules that hold them, and not for the module around them.

    Args:
        function: changes a tensor in place; of `transformers.initialization`, which spares loaded tensors.
        layers: modules with a `weight`.
    """
    for layer in layers:
        layer.weight_init = function  # type: ignore[assignment]  # torch's stub knows tensors and modules


def torch_default_(weight: torch.Tensor) -> torch.Tensor:
    """Initialize a weight as torch's linear and convolution layers do."""
    return init.kaiming_uniform_(weight, a=5**0.5)
