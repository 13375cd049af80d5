"""Probes: small classifiers that are trained on the features of a frozen encoder, and their recipes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from internvideo_hf.models.common.attentive_probe import AttentiveProbe
from internvideo_hf.recipes.reading import PROBES, RecipeError, build
from internvideo_hf.utils.names import lookup

Scorer = Callable[[torch.Tensor], torch.Tensor]
"""A trained probe: features -> logits, `(clips, classes)`."""
PREFIX = "frozen/"
"""Prefix of the names of the package's probes; callers may omit it."""


@dataclass(frozen=True)
class Training:
    """The clips that a probe is trained on.

    Args:
        features: `(clips, ...)`, on the CPU.
        labels: `(clips,)`.
        classes: number of classes.
        device: that trains.
    """

    features: torch.Tensor
    labels: torch.Tensor
    classes: int
    device: torch.device

    def part(self, is_kept: torch.Tensor) -> "Training":
        """Return some of the clips.

        Args:
            is_kept: `(clips,)`, bool.
        """
        return replace(self, features=self.features[is_kept], labels=self.labels[is_kept])


@dataclass(frozen=True)
class LinearSettings:
    """Multinomial logistic regression on features that are standardized by the training clips.

    Args:
        title: one line.
        probe: "linear".
        penalties: weights of half the squared norm of the weights, each above 0, that are tried on the held-out part.
        penalty: the one that is taken where nothing can be held out.
        held_out: ratio of the training clips of each class, at least one of two or more.
        iterations: the most of L-BFGS.
        source: origins of the numbers.
    """

    title: str
    probe: str
    penalties: list[float]
    penalty: float
    held_out: float
    iterations: int
    source: list[str] = field(default_factory=list)

    @property
    def features(self) -> str:
        """What it reads of a clip."""
        return "pooled"

    @property
    def tried(self) -> list[float]:
        """What is chosen on the held-out part."""
        return self.penalties

    @property
    def default(self) -> float:
        """What is taken where nothing can be held out."""
        return self.penalty

    def train(self, clips: Training, chosen: float, seed: int) -> Scorer:
        """Train on clips.

        Args:
            clips: with features `(clips, dim)`.
            chosen: the penalty.
            seed: ignored: there is one optimum.
        """
        device = clips.device
        features = clips.features.to(device, torch.float32 if device.type == "mps" else torch.float64)
        labels = clips.labels.to(device)
        mean, spread = features.mean(dim=0), features.std(dim=0, correction=0)
        # A channel that never changes tells nothing, and would be divided by 0.
        scale = torch.where(spread > 1e-6 * spread.max().clamp_min(1e-12), 1 / spread.clamp_min(1e-30), 0)
        rows = (features - mean) * scale
        weights = rows.new_zeros(rows.shape[1] + 1, clips.classes, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [weights], max_iter=self.iterations, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
        )

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            logits = rows @ weights[:-1] + weights[-1]
            value = nn.functional.cross_entropy(logits, labels) + chosen / 2 * weights[:-1].square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        found = weights.detach()
        return lambda rows: (((rows.to(mean) - mean) * scale) @ found[:-1] + found[-1]).cpu()


@dataclass(frozen=True)
class AttentiveSettings:
    """Cross-attention with a learned query on tokens, and a linear classifier.

    Args:
        title: one line.
        probe: "attentive".
        depth: blocks, see `AttentiveProbe`.
        heads: of attention, at most.
        mlp_ratio: hidden width of the MLPs over that of the tokens.
        learning_rates: those that are tried on the held-out part.
        learning_rate: the one that is taken where nothing can be held out.
        held_out: as of `LinearSettings`.
        weight_decay: of AdamW.
        epochs: over the training clips.
        least_steps: there are more epochs where they have fewer steps.
        batch_size: clips of a step.
        warmup: ratio of the steps in which the rate rises; then it falls as a half cosine.
        source: origins of the numbers.
    """

    title: str
    probe: str
    depth: int
    heads: int
    mlp_ratio: float
    learning_rates: list[float]
    learning_rate: float
    held_out: float
    weight_decay: float
    epochs: int
    least_steps: int
    batch_size: int
    warmup: float
    source: list[str] = field(default_factory=list)

    @property
    def features(self) -> str:
        """What it reads of a clip."""
        return "tokens"

    @property
    def tried(self) -> list[float]:
        """What is chosen on the held-out part."""
        return self.learning_rates

    @property
    def default(self) -> float:
        """What is taken where nothing can be held out."""
        return self.learning_rate

    def train(self, clips: Training, chosen: float, seed: int) -> Scorer:
        """Train on clips.

        Args:
            clips: with features `(clips, tokens, dim)`.
            chosen: the learning rate.
            seed: of the first weights and of the order.
        """
        features, device, total = clips.features, clips.device, len(clips.features)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            probe = AttentiveProbe(features.shape[-1], clips.classes, self.depth, self.heads, self.mlp_ratio)
        order = torch.Generator().manual_seed(seed)
        probe = probe.to(device).train()
        matrices = [weight for weight in probe.parameters() if weight.ndim == 2]
        others = [weight for weight in probe.parameters() if weight.ndim != 2]
        groups = [{"params": matrices, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=chosen)
        an_epoch = math.ceil(total / self.batch_size)
        steps = max(self.epochs * an_epoch, self.least_steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, partial(_rate, steps=steps, warmup=max(1, round(self.warmup * steps)))
        )
        for step in range(steps):
            if step % an_epoch == 0:
                shuffled = torch.randperm(total, generator=order)
            batch = shuffled[step % an_epoch * self.batch_size :][: self.batch_size]
            logits = probe(features[batch].to(device).float())
            loss = nn.functional.cross_entropy(logits, clips.labels[batch].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return partial(_scores, probe=probe.eval(), batch_size=self.batch_size)


Settings = LinearSettings | AttentiveSettings
_KINDS: dict[str, type[Settings]] = {"linear": LinearSettings, "attentive": AttentiveSettings}


@dataclass(frozen=True)
class Fitted:
    """A trained probe.

    Args:
        score: features -> logits, `(clips, classes)`, on the CPU.
        chosen: the penalty or learning rate that it was trained with.
        held_out: clips by which that was chosen; 0 where it is the recipe's own.
    """

    score: Scorer
    chosen: float
    held_out: int


def probe_names() -> list[str]:
    """List the package's probes, without their prefix."""
    return [name.removeprefix(PREFIX) for name in PROBES.names()]


def load_probe(name: str | Path, overrides: Sequence[str] = ()) -> Settings:
    """Read a probe's recipe, and override values.

    Args:
        name: one of `probe_names()`, or the path of a file that ends in .yaml.
        overrides: such as "epochs=50"; the value is read as YAML.

    Raises:
        RecipeError: if the recipe is unknown, or a key or value of it or of an override is invalid.
    """
    name = str(name)
    if not name.endswith(".yaml") and "/" not in name:
        lookup({known: None for known in probe_names()}, name, "kind", RecipeError)
        name = PREFIX + name
    content = PROBES.read(name, overrides)
    settings: Settings = build(lookup(_KINDS, content.get("probe"), f"{name}: probe", RecipeError), content, name)
    _check(settings, name)
    return settings


def fit(settings: Settings, clips: Training, seed: int) -> Fitted:
    """Train a probe, with the penalty or learning rate that is best on a part that is held out.

    Each value of the recipe trains on the other part, and that of the least cross-entropy on the held-out one then
    trains on all clips.

    Args:
        settings: the recipe.
        clips: to train on.
        seed: of what is held out, and of the training.
    """
    held, chosen = torch.from_numpy(held_out(clips.labels.numpy(), settings.held_out, seed)), settings.default
    if held.any() and len(settings.tried) > 1:
        losses = []
        for value in settings.tried:
            logits = settings.train(clips.part(~held), value, seed)(clips.features[held])
            losses.append(nn.functional.cross_entropy(logits.double(), clips.labels[held]).item())
        chosen = settings.tried[int(np.argmin(np.nan_to_num(losses, nan=np.inf)))]
    return Fitted(settings.train(clips, chosen, seed), chosen, int(held.sum()))


def held_out(labels: np.ndarray, ratio: float, seed: int) -> np.ndarray:
    """Return which clips of a training list are held out, `(clips,)`, bool: of each class with two or more.

    Args:
        labels: `(clips,)`.
        ratio: of each class, at least one clip and not all.
        seed: of the choice.
    """
    chosen, random = np.zeros(len(labels), dtype=bool), np.random.default_rng(seed)
    for label in np.unique(labels):
        places = random.permutation(np.flatnonzero(labels == label))
        chosen[places[: min(max(1, round(ratio * len(places))), len(places) - 1)]] = True
    return chosen


@torch.no_grad()
def _scores(rows: torch.Tensor, probe: nn.Module, batch_size: int) -> torch.Tensor:
    device = next(probe.parameters()).device
    return torch.cat([probe(batch.to(device).float()).cpu() for batch in torch.split(rows, batch_size)])


def _rate(step: int, steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _check(settings: Settings, name: str) -> None:
    """Refuse numbers out of range."""
    for entry in fields(settings):
        value = getattr(settings, entry.name)
        numbers = [number for number in (value if isinstance(value, list) else [value]) if not isinstance(number, str)]
        least_one = entry.name in ("depth", "heads", "epochs", "least_steps", "batch_size", "iterations")
        if entry.name in ("held_out", "warmup"):
            wrong, expected = [number for number in numbers if not 0 < number < 1], "a ratio above 0 and below 1"
        elif least_one:
            wrong, expected = [number for number in numbers if number < 1], "1 or more"
        elif entry.name == "weight_decay":
            wrong, expected = [number for number in numbers if not 0 <= number < math.inf], "0 or more"
        else:
            wrong, expected = [number for number in numbers if not 0 < number < math.inf], "a number above 0"
        if wrong or (value == [] and entry.name != "source"):
            raise RecipeError(f"{name}: {entry.name} is {value}, expected {expected}.")
