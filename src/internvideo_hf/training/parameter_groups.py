"""Parameter groups of an optimizer: layer-wise learning rates, and exemption from weight decay."""

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from internvideo_hf.models.common.layer_groups import LayerGroups
from internvideo_hf.utils.names import check_name


@dataclass(frozen=True)
class DecayRule:
    """The parameters that a released recipe exempts from weight decay.

    Attributes:
        vectors: exempt parameters with fewer than two axes: biases, norms, scalars.
        exempt: pattern of names of further exempt parameters, found anywhere in the name.
        decayed: pattern of names of vectors that are decayed, since they have more axes in the original.
    """

    vectors: bool = True
    exempt: str | None = None
    decayed: str | None = None


RULES = {
    "videomae": DecayRule(exempt=r"positions\.table$"),
    "uniformerv2": DecayRule(decayed=r"video_embedding$"),
    "internvideo": DecayRule(),  # gates, norms and the video token are vectors
    "viclip": DecayRule(exempt=r"(position|temporal)_embedding"),
    "internvideo_mm": DecayRule(exempt=r"(position|token|mask)_embedding"),
    "actionformer": DecayRule(exempt=r"relative_bias$"),
    # Exempts biases only: norms and scalars are decayed.
    "retrieval": DecayRule(vectors=False, exempt=r"bias$"),
    "all": DecayRule(vectors=False),  # exempts nothing (open set)
}
"""Name in a recipe -> rule; all but the last exempt biases."""


def parameter_groups(
    model: LayerGroups,
    learning_rate: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    rule: str = "videomae",
    head_scale: float = 1.0,
) -> list[dict[str, Any]]:
    """Sort a model's trained parameters into groups for a torch optimizer.

    Args:
        model: a model with `layer_groups()`.
        learning_rate: learning rate of the last layer.
        weight_decay: weight decay of parameters that are not exempt.
        layer_decay: factor from each layer to the one before it, in (0, 1]; see `layer_scales`.
        rule: a name in `RULES`.
        head_scale: factor on the learning rate of the head.

    Returns:
        Groups with `params`, their `names`, `lr`, `lr_scale` (its ratio to `learning_rate`) and `weight_decay`.

    Raises:
        ValueError: if the rule is unknown, or all parameters are frozen.
    """
    check_name(rule, RULES, "decay_rule")
    scales = layer_scales(model, layer_decay, head_scale)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = 0.0 if is_exempt(name, parameter, RULES[rule]) else weight_decay
        start = {"params": [], "names": [], "lr": learning_rate * scales[name], "lr_scale": scales[name]}
        group = groups.setdefault((scales[name], decay), {**start, "weight_decay": decay})
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise ValueError("No parameter to train: all are frozen. Freeze fewer groups.")
    return list(groups.values())


def is_exempt(name: str, parameter: nn.Parameter, rule: DecayRule) -> bool:
    """Return whether a rule exempts a parameter from weight decay.

    Args:
        name: its name in the model.
        parameter: the parameter.
        rule: a value of `RULES`.
    """
    if rule.decayed and re.search(rule.decayed, name):
        return False
    # ZeRO-3 replaces every parameter by an empty vector with the original shape in an attribute.
    axes = len(getattr(parameter, "ds_shape", parameter.shape))
    return (rule.vectors and axes < 2) or bool(rule.exempt and re.search(rule.exempt, name))


def layer_scales(model: LayerGroups, layer_decay: float, head_scale: float = 1.0) -> dict[str, float]:
    """Return the factor on each parameter's learning rate: 1 above all layers, times `layer_decay` for each below.

    In a stack of `L` layers the last has `layer_decay`, the first `layer_decay ** L`, the embedding
    `layer_decay ** (L + 1)`. A model with two towers has two stacks. Source: VideoMAE's fine-tuning (BEiT).

    Args:
        model: a model with `layer_groups()`.
        layer_decay: in (0, 1]; 1 for the same learning rate everywhere.
        head_scale: factor of the group "head", which a fine-tuning starts from nothing; "head.vision" and others of
            its kind belong to what was trained before.

    Raises:
        ValueError: if `layer_decay` is out of range.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay={layer_decay}, expected above 0 and at most 1.")
    groups = model.layer_groups()
    depths: dict[str, int] = {}  # tower -> layers
    for group in groups:
        if match := re.fullmatch(r"(.*?)layers\.(\d+)", group):
            depths[match[1]] = max(depths.get(match[1], 0), int(match[2]) + 1)
    scales: dict[str, float] = {}
    for group, names in groups.items():
        power = 0
        if match := re.fullmatch(r"(.*?)layers\.(\d+)", group):
            power = depths[match[1]] - int(match[2])
        elif group.endswith("embeddings"):
            power = depths.get(group.removesuffix("embeddings"), 0) + 1
        factor = head_scale if group == "head" else 1.0
        scales |= dict.fromkeys(names, factor * layer_decay**power)
    return scales
