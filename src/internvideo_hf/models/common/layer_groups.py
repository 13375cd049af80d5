"""Named layer groups for freezing, layer-wise learning rates and partial loading."""

import re
from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from transformers.modeling_utils import PreTrainedModel


class LayerGroups(PreTrainedModel):
    """A model whose tensors have named groups.

    Attributes:
        layer_group_rules: pattern of the beginning of a tensor's name, without `base_model_prefix` -> name of its
            group, in order from the input to the output. `{}` in a group's name takes over the layer's number.
        backbone_groups: what `freeze_backbone` freezes by default; "layers" stands for all groups `layers.*`.
    """

    layer_group_rules: ClassVar[Mapping[str, str]]
    backbone_groups: ClassVar[tuple[str, ...]] = ("embeddings", "layers")

    _frozen_tensors: frozenset[str] = frozenset()

    def post_init(self) -> None:
        """Finish the model; see transformers' `PreTrainedModel.post_init`."""
        super().post_init()  # type: ignore[no-untyped-call]
        # Accelerate's FSDP2 refuses to shard by a layer that is not there, and CLIP's text tower also names those of a
        # vision tower, while sizes of ours leave out a kind of block. It also shards the input embedding by itself, so
        # that no other unit may hold it.
        embedding = self.get_input_embeddings()
        self._no_split_modules = set(self._no_split_modules or ()) & {
            type(module).__name__
            for module in self.modules()
            if module is embedding or all(part is not embedding for part in module.modules())
        }

    def layer_groups(self) -> dict[str, list[str]]:
        """Return the groups in order from the input to the output, with the names of their parameters and buffers.

        Every tensor of `state_dict()` is in exactly one group.
        """
        places = {name: self._place(name) for name in self.state_dict()}
        groups: dict[str, list[str]] = {}
        for name in sorted(places, key=lambda name: places[name][:2]):
            groups.setdefault(places[name][2], []).append(name)
        return groups

    def freeze_backbone(self, *groups: str) -> None:
        """Stop training groups: no gradient, and evaluation mode, so that their statistics and dropout rest too.

        Args:
            groups: names in `layer_groups()`, or their beginnings ("layers" for all `layers.*`); the embedding and
                all layers of the backbone by default. What was frozen before stays so.

        Raises:
            ValueError: if there is no such group, naming those that there are.
        """
        self._frozen_tensors = self._frozen_tensors | set(self._tensors_of(groups or self.backbone_groups))
        for name, parameter in self.named_parameters():
            if name in self._frozen_tensors:
                parameter.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; frozen groups stay in evaluation until their parameters are trained again.

        Args:
            mode: True for training.
        """
        super().train(mode)
        frozen = self._frozen_tensors - {name for name, tensor in self.named_parameters() if tensor.requires_grad}
        if frozen:
            for prefix, module in self.named_modules():
                names = {f"{prefix}.{name}".removeprefix(".") for name in module.state_dict()}
                if names and names <= frozen:
                    module.eval()
        return self

    @torch.no_grad()
    def load_layer_groups(self, source: "LayerGroups", *groups: str) -> None:
        """Take over the weights of groups from another model, such as all but the head of one with other classes.

        Args:
            source: a model of the same family, with or without the same head.
            groups: names in our `layer_groups()` or their beginnings; all but the head's by default.

        Raises:
            ValueError: if there is no such group, or `source` lacks one of its tensors or has it in another shape;
                nothing is changed then.
        """
        if not isinstance(source, LayerGroups):
            raise ValueError(f"A {type(source).__name__} names no groups; give a model of this package.")
        own, given = self.state_dict(), source.state_dict()
        body = tuple(group for group in self.layer_groups() if group.split(".")[0] != "head")
        wanted = self._tensors_of(groups or body)
        pairs = {
            name: next((given[key] for key in self.names_in(source, name) if key in given), None) for name in wanted
        }
        for name, tensor in pairs.items():
            if tensor is None or tensor.shape != own[name].shape:
                found = "is missing" if tensor is None else f"has the shape {tuple(tensor.shape)}"
                raise ValueError(
                    f"{name} {found} in the {type(source).__name__} given, expected {tuple(own[name].shape)}. "
                    "Take a model of the same sizes, or name only the groups that fit."
                )
        for name, tensor in pairs.items():
            own[name].copy_(tensor)

    def _tensors_of(self, names: tuple[str, ...]) -> list[str]:
        groups = self.layer_groups()
        chosen = {name: [group for group in groups if f"{group}.".startswith(f"{name}.")] for name in names}
        for name, found in chosen.items():
            if not found:
                raise ValueError(f"No group {name!r} in {type(self).__name__}; it has {', '.join(groups)}.")
        return [tensor for found in chosen.values() for group in found for tensor in groups[group]]

    @classmethod
    def in_backbone(cls, name: str) -> bool:
        """Return whether `freeze_backbone` freezes a tensor by default.

        Args:
            name: in `state_dict()`.
        """
        group = cls._place(name)[2]
        return any(f"{group}.".startswith(f"{part}.") for part in cls.backbone_groups)

    @classmethod
    def _place(cls, name: str) -> tuple[int, int, str]:
        """Return the number of a tensor's rule, the number of its layer and the name of its group."""
        for number, (rule, group) in enumerate(cls.layer_group_rules.items()):
            if match := re.match(rf"(?:{rule})(?:\.|$)", cls._without_prefix(name)):
                layer = next((text for text in match.groups() if text), "0")
                return number, int(layer), group.format(layer)
        raise AssertionError(f"{name} of {cls.__name__} is in no group of layer_group_rules")

    @classmethod
    def _without_prefix(cls, name: str) -> str:
        return name.removeprefix(f"{cls.base_model_prefix}.")

    def names_in(self, source: "LayerGroups", name: str) -> tuple[str, ...]:
        """Return what one of our tensors may be called in another model, with or without an encoder's prefix.

        Args:
            source: the other model.
            name: in our `state_dict()`.
        """
        bare = (self._without_prefix(name), source._without_prefix(name))
        return (name, *bare, *(f"{model.base_model_prefix}.{one}" for model in (self, source) for one in bare))
