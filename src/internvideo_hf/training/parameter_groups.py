"""Which parameters an optimizer treats alike: layer-wise learning rates, and who is spared weight decay."""

import re
from dataclasses import dataclass

from torch import nn

from internvideo_hf.models.common.layer_groups import LayerGroups


@dataclass(frozen=True)
class DecayRule:
    """Which parameters a released recipe does not decay.

    Attributes:
        vectors: spare everything with fewer than two axes: biases, norms, scalars.
        spared: pattern of further names, searched anywhere in ours.
        decayed: pattern of names that are decayed although they are vectors, since the original gave them more axes.
    """

    vectors: bool = True
    spared: str | None = None
    decayed: str | None = None


RULES = {
    "videomae": DecayRule(spared=r"positions\.table$"),
    "uniformerv2": DecayRule(decayed=r"video_embedding$"),
    "internvideo": DecayRule(),  # gates, norms and the video token are vectors
    "viclip": DecayRule(spared=r"(position|temporal)_embedding"),
    "internvideo_mm": DecayRule(spared=r"(position|token|mask)_embedding"),
    # Norms are decayed in it, and scalars: whatever is not called a bias.
    "retrieval": DecayRule(vectors=False, spared=r"bias$"),
}
"""Name in a recipe -> rule; all are spared their biases."""


def parameter_groups(
    model: LayerGroups, learning_rate: float, weight_decay: float, layer_decay: float = 1.0, rule: str = "videomae"
) -> list[dict]:
    """Sort a model's trained parameters into groups for a torch optimizer.

    Args:
        model: names its layers by `layer_groups()`.
        learning_rate: of the head.
        weight_decay: of parameters that the rule does not spare.
        layer_decay: factor from each layer to the one before it, 0-1; see `layer_scales`.
        rule: a name in `RULES`.

    Returns:
        Groups with `params`, their `names`, `lr`, `lr_scale` (its share of `learning_rate`) and `weight_decay`.

    Raises:
        ValueError: if the rule is unknown, or nothing is left to train.
    """
    if rule not in RULES:
        raise ValueError(f"Unknown rule of weight decay {rule!r}, expected one of {', '.join(RULES)}.")
    scales, groups = layer_scales(model, layer_decay), {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = 0.0 if is_spared(name, parameter, RULES[rule]) else weight_decay
        start = {"params": [], "names": [], "lr": learning_rate * scales[name], "lr_scale": scales[name]}
        group = groups.setdefault((scales[name], decay), {**start, "weight_decay": decay})
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise ValueError("No parameter is left to train: all are frozen.")
    return list(groups.values())


def is_spared(name: str, parameter: nn.Parameter, rule: DecayRule) -> bool:
    """Whether a parameter is not decayed."""
    if rule.decayed and re.search(rule.decayed, name):
        return False
    # ZeRO-3 leaves an empty vector in the place of every parameter, and notes its shape.
    axes = len(getattr(parameter, "ds_shape", parameter.shape))
    return (rule.vectors and axes < 2) or bool(rule.spared and re.search(rule.spared, name))


def layer_scales(model: LayerGroups, layer_decay: float) -> dict[str, float]:
    """Factors on the learning rate by parameter: 1 at the head, smaller by `layer_decay` with every layer before it.

    Of a stack of `L` layers the last has `layer_decay`, the first `layer_decay ** L`, the embedding before it
    `layer_decay ** (L + 1)`. A model with two towers has two such stacks. Source: VideoMAE's fine-tuning (BEiT).

    Args:
        model: names its layers by `layer_groups()`.
        layer_decay: above 0, at most 1; 1 gives all the same.

    Raises:
        ValueError: if `layer_decay` lies outside.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay={layer_decay} must lie above 0 and be at most 1.")
    groups = model.layer_groups()
    depths: dict[str, int] = {}  # tower -> layers
    for group in groups:
        if match := re.fullmatch(r"(.*?)layers\.(\d+)", group):
            depths[match[1]] = max(depths.get(match[1], 0), int(match[2]) + 1)
    scales = {}
    for group, names in groups.items():
        power = 0
        if match := re.fullmatch(r"(.*?)layers\.(\d+)", group):
            power = depths[match[1]] - int(match[2])
        elif group.endswith("embeddings"):
            power = depths.get(group.removesuffix("embeddings"), 0) + 1
        scales |= dict.fromkeys(names, layer_decay**power)
    return scales
