"""Ways to score how unknown a video is, from the answers of a classifier; higher is less known.

Most need no training. Those that learn from labels (`learns`) put a last layer on the features of the classifier.
Sources: reference cases `os_baselines` and `os_threshold_auc`, and the papers that each class names.
"""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn

from internvideo_hf.inference.open_set import last_layers
from internvideo_hf.inference.open_set.observations import MERGES, Observations
from internvideo_hf.inference.open_set.openmax import DISTANCES, distances, fit_tail, openmax, tail_probability
from internvideo_hf.models.common.evidential import EVIDENCES, concentrations, uncertainty
from internvideo_hf.models.common.narrowing import known, of_type
from internvideo_hf.recipes.reading import check_kind
from internvideo_hf.utils.names import check_name, did_you_mean, lookup, nearest

MIN_VIDEOS = 3  # rightly classified ones that OpenMax needs of each class
_TEMPERATURES = (0.05, 20.0)


@dataclass
class Method:
    """A method, with its options as fields.

    Attributes:
        merge: what is averaged over the views of a video, of `MERGES`.
        tensors: what `fit` has found, by name.
    """

    reads: ClassVar[tuple[str, ...]] = ("logits",)
    """Fields of `Observations` that the method scores by, the most important first."""
    learns: ClassVar[bool] = False
    """Fits so many numbers that the videos of the fit score better than new ones."""
    needs_labels: ClassVar[bool] = False

    merge: str = field(default="prob", kw_only=True)
    tensors: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_name(self.merge, MERGES, "merge")

    def options(self) -> dict[str, Any]:
        """Return the options as JSON."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.init}

    def fit(self, seen: Observations) -> None:
        """Find what the method needs to know of known videos.

        Args:
            seen: known videos with labels.
        """

    def score(self, seen: Observations) -> Tensor:
        """Return the scores of videos, float64, `(videos,)`.

        Args:
            seen: videos.
        """
        measured = self.measure(seen.merged() if self.merge == "score" else seen)
        return self.conclude(measured.mean(dim=1))

    def measure(self, seen: Observations) -> Tensor:
        """Return what is averaged over views, float64, `(videos, views, ...)`.

        Args:
            seen: videos.
        """
        raise NotImplementedError

    def conclude(self, measured: Tensor) -> Tensor:
        """Return the scores, `(videos,)`.

        Args:
            measured: the mean over views, `(videos, ...)`.
        """
        raise NotImplementedError

    def _numbers(self, seen: Observations) -> Tensor:
        numbers: Tensor = getattr(seen, self.reads[0])
        return numbers.double()


def _most_probable(probabilities: Tensor) -> Tensor:
    return 1 - probabilities.max(dim=-1).values


def entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy in nats, `(...)`.

    Args:
        probabilities: `(..., classes)`.
    """
    return -torch.xlogy(probabilities, probabilities).sum(dim=-1)


def mutual_information(probabilities: Tensor) -> Tensor:
    """Return how much passes disagree (BALD, arXiv 1112.5745): entropy of their mean less their mean entropy, `(...)`.

    Args:
        probabilities: `(..., passes, classes)`.
    """
    return entropy(probabilities.mean(dim=-2)) - entropy(probabilities).mean(dim=-1)


@dataclass
class MaxSoftmax(Method):
    """1 - the largest probability (arXiv 1610.02136)."""

    def measure(self, seen: Observations) -> Tensor:
        return self._numbers(seen).softmax(dim=-1)

    def conclude(self, measured: Tensor) -> Tensor:
        return _most_probable(measured)


@dataclass
class Entropy(MaxSoftmax):
    """The entropy of the probabilities."""

    def conclude(self, measured: Tensor) -> Tensor:
        return entropy(measured)


@dataclass
class MaxLogit(Method):
    """The largest logit, negated (arXiv 1911.11132)."""

    def measure(self, seen: Observations) -> Tensor:
        return -self._numbers(seen).max(dim=-1).values

    def conclude(self, measured: Tensor) -> Tensor:
        return measured


@dataclass
class Energy(MaxLogit):
    """The free energy -T log sum exp(logits / T) (arXiv 2010.03759).

    Args:
        temperature: T, above 0.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive(temperature=self.temperature)

    def measure(self, seen: Observations) -> Tensor:
        return -self.temperature * (self._numbers(seen) / self.temperature).logsumexp(dim=-1)


@dataclass
class Temperature(MaxSoftmax):
    """1 - the largest probability at the temperature at which the labels are most likely (arXiv 1706.04599)."""

    needs_labels: ClassVar[bool] = True

    @torch.enable_grad()
    def fit(self, seen: Observations) -> None:
        logarithm = torch.zeros((), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([logarithm], max_iter=50, line_search_fn="strong_wolfe")
        merged, rows = seen.merged() if self.merge == "score" else seen, torch.arange(len(seen))

        def loss() -> Tensor:
            optimizer.zero_grad()
            probabilities = (self._numbers(merged) / logarithm.exp()).softmax(dim=-1).mean(dim=1)
            value = -probabilities[rows, seen.labels].clamp(min=1e-300).log().mean()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        self.tensors = {"temperature": logarithm.detach().exp().clamp(*_TEMPERATURES)}

    def measure(self, seen: Observations) -> Tensor:
        return (self._numbers(seen) / self.tensors["temperature"]).softmax(dim=-1)


@dataclass
class Evidential(MaxLogit):
    """The uncertainty of evidential classifiers, classes / sum of concentrations (arXiv 2107.10161).

    Published order: the mean of the logits of all views, then the evidence.

    Args:
        evidence: of a logit, "exp", "relu" or "softplus"; `calibrate` takes that of the model's configuration.
    """

    evidence: str = "exp"
    merge: str = field(default="score", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.evidence, EVIDENCES, "evidence")

    def measure(self, seen: Observations) -> Tensor:
        return uncertainty(concentrations(self._numbers(seen), self.evidence)).double()


@dataclass
class MonteCarloDropout(Method):
    """The disagreement of random passes with dropout (arXiv 1506.02142).

    Args:
        passes: number of passes, 2 or more.
        rate: of dropout before the model's `classifier`, above 0 and below 1; None leaves the model's own dropout on.
        seed: of the passes; pass n begins with n * seed, as the original's with n * 1234.
    """

    reads: ClassVar[tuple[str, ...]] = ("samples",)

    passes: int = 10
    rate: float | None = None
    seed: int = 1234

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.passes < 2 or (self.rate is not None and not 0 < self.rate < 1):
            raise ValueError(f"passes={self.passes} must be 2 or more, rate={self.rate} above 0 and below 1, or None.")

    def measure(self, seen: Observations) -> Tensor:
        return self._numbers(seen).softmax(dim=-1)

    def conclude(self, measured: Tensor) -> Tensor:
        return mutual_information(measured)


@dataclass
class Ensemble(Method):
    """The disagreement of several classifiers of the same classes (deep ensembles, arXiv 1612.01474).

    Args:
        members: the other classifiers, folders or names on the Hub; their views are those of their processors.
    """

    reads: ClassVar[tuple[str, ...]] = ("samples",)

    members: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        if wrong := [name for name in self.members if not isinstance(name, str)]:
            raise ValueError(f"members holds {wrong[0]!r}, expected folders or names on the Hub, such as [run/a].")

    measure, conclude = MonteCarloDropout.measure, MonteCarloDropout.conclude


@dataclass
class _LastLayer(Method):
    """A last layer that is learned on standardized features.

    Args:
        steps: batches of 256 views, 1 or more.
        learning_rate: of Adam, above 0.
        seed: of the layer's start and of the batches.
    """

    reads: ClassVar[tuple[str, ...]] = ("features",)
    learns: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True

    steps: int = 400
    learning_rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive(steps=self.steps, learning_rate=self.learning_rate)

    def fit(self, seen: Observations) -> None:
        features, labels = known(seen.features).float(), known(seen.labels)
        rows, targets = features.flatten(0, 1), labels.repeat_interleave(features.shape[1])
        self.tensors = {"mean": rows.mean(dim=0), "deviation": rows.std(dim=0, correction=0).clamp(min=1e-6)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            layer = self._layer(rows.shape[1], known(seen.logits).shape[-1])
            last_layers.learn(layer, self._loss(layer), self._inputs(rows), targets, self.steps, self.learning_rate)
        self.tensors |= {f"layer.{name}": tensor.detach().clone() for name, tensor in layer.state_dict().items()}

    def _inputs(self, features: Tensor) -> Tensor:
        return (features.float() - self.tensors["mean"]) / self.tensors["deviation"]

    def _fitted(self, features: Tensor) -> tuple[nn.Module, Tensor]:
        """Return the learned layer, and its inputs."""
        weights = {name.removeprefix("layer."): value for name, value in self.tensors.items() if "layer." in name}
        classes = next(value for name, value in weights.items() if name in ("bias_mu", "centers")).shape[0]
        with torch.random.fork_rng(devices=[]):
            layer = self._layer(features.shape[-1], classes)
        layer.load_state_dict(weights)
        return layer, self._inputs(features)

    def _layer(self, dim: int, classes: int) -> nn.Module:
        raise NotImplementedError

    def _loss(self, layer: nn.Module) -> Any:
        raise NotImplementedError


@dataclass
class Bayesian(_LastLayer):
    """The disagreement of draws of a Bayesian last layer (stochastic variational inference, arXiv 1505.05424).

    Args:
        passes: draws of the weights, 2 or more; equal for all videos.
    """

    passes: int = 10

    def _layer(self, dim: int, classes: int) -> nn.Module:
        return last_layers.BayesianLinear(dim, classes)

    def _loss(self, layer: nn.Module) -> Any:
        def loss(features: Tensor, labels: Tensor) -> Tensor:
            outputs, priors, posteriors = layer(features, passes=2)
            terms = last_layers.bayesian_losses(outputs, priors, posteriors, labels)
            return terms["cls"] + terms["complexity"]

        return loss

    @torch.no_grad()
    def measure(self, seen: Observations) -> Tensor:
        layer, inputs = self._fitted(known(seen.features))
        outputs, _, _ = layer(inputs.flatten(0, 1), self.passes, torch.Generator().manual_seed(self.seed))
        samples = outputs.transpose(0, 1).unflatten(0, inputs.shape[:2])  # (videos, views, passes, classes)
        probabilities: Tensor = samples.double().softmax(dim=-1)
        return probabilities

    def conclude(self, measured: Tensor) -> Tensor:
        return mutual_information(measured)


@dataclass
class ReciprocalPoints(_LastLayer):
    """1 - the largest probability by reciprocal points, what each class is not (RPL, arXiv 2011.11167).

    Args:
        temperature: of the logits in training, above 0.
        weight: of the open term, which draws features to a radius.
    """

    reciprocal: ClassVar[bool] = True

    temperature: float = 1.0
    weight: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive(temperature=self.temperature)

    def _layer(self, dim: int, classes: int) -> nn.Module:
        return last_layers.Points(dim, classes, self.reciprocal)

    def _loss(self, layer: nn.Module) -> Any:
        def loss(features: Tensor, labels: Tensor) -> Tensor:
            mapped, logits = layer(features)
            towards = of_type(layer.radius if self.reciprocal else layer.centers, nn.Parameter)
            terms = last_layers.point_losses(mapped, logits, labels, towards, self.temperature, self.weight)
            return terms["cls"] + terms["open"]

        return loss

    @torch.no_grad()
    def measure(self, seen: Observations) -> Tensor:
        layer, inputs = self._fitted(known(seen.features))
        logits: Tensor = layer(inputs)[1]
        return logits.double().softmax(dim=-1)

    def conclude(self, measured: Tensor) -> Tensor:
        return _most_probable(measured)


@dataclass
class PrototypePoints(ReciprocalPoints):
    """1 - the largest probability by prototypes, to which features are drawn (GCP, arXiv 1805.03438)."""

    reciprocal: ClassVar[bool] = False


@dataclass
class OpenMax(Method):
    """The probability of no class, by the distance of features from the mean of their class (arXiv 1511.06233).

    Args:
        tail: number of the largest distances of a class that the Weibull distribution is fitted to; at most a fifth
            of them, as the others are no tail.
        rank: how many of the best classes are recalibrated.
        distance: "eucos", "eu" or "cos".
    """

    reads: ClassVar[tuple[str, ...]] = ("features", "logits")
    needs_labels: ClassVar[bool] = True

    tail: int = 20
    rank: int = 1
    distance: str = "eucos"
    merge: str = field(default="score", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.distance, DISTANCES, "distance")
        _check_positive(tail=self.tail, rank=self.rank)

    def fit(self, seen: Observations) -> None:
        logits, features = known(seen.logits).double(), known(seen.features).double().mean(dim=1)
        labels = known(seen.labels)
        right = (logits.argmax(dim=-1) == labels[:, None]).any(dim=1)  # in any view, as in the original
        rows = [torch.nonzero(right & (labels == number))[:, 0] for number in range(logits.shape[-1])]
        if few := [number for number, own in enumerate(rows) if len(own) < MIN_VIDEOS]:
            raise ValueError(
                f"OpenMax needs {MIN_VIDEOS} videos of each class that the model classifies rightly, and "
                f"{len(few)} of {len(rows)} classes have fewer, such as class {few[0]} with {len(rows[few[0]])}. Give "
                "more videos, or choose another method."
            )
        means = torch.stack([features[own].mean(dim=0) for own in rows])
        found = [distances(features[own], means, self.distance)[:, number] for number, own in enumerate(rows)]
        tails = [fit_tail(own.numpy(), max(MIN_VIDEOS, min(self.tail, len(own) // 5))) for own in found]
        self.tensors = {"means": means, "tails": torch.tensor(np.array(tails))}

    def measure(self, seen: Observations) -> Tensor:
        found = distances(self._numbers(seen), self.tensors["means"], self.distance)
        return openmax(known(seen.logits).double(), tail_probability(found, self.tensors["tails"]), self.rank)

    def conclude(self, measured: Tensor) -> Tensor:
        return measured[:, -1]


METHODS: dict[str, type[Method]] = {
    "max_softmax": MaxSoftmax,
    "max_logit": MaxLogit,
    "energy": Energy,
    "entropy": Entropy,
    "temperature": Temperature,
    "evidential": Evidential,
    "mc_dropout": MonteCarloDropout,
    "ensemble": Ensemble,
    "bayesian": Bayesian,
    "rpl": ReciprocalPoints,
    "gcp": PrototypePoints,
    "openmax": OpenMax,
}
"""Name -> method."""


def make_method(name: str, **options: Any) -> Method:
    """Return a method that is not fitted yet.

    Args:
        name: in `METHODS`.
        options: fields of its class.

    Raises:
        ValueError: if a name is unknown, or a value is of another type or out of range.
    """
    kind = lookup(METHODS, name, "method")
    names, hints = [entry.name for entry in fields(kind) if entry.init], get_type_hints(kind)
    for option, value in options.items():
        if option not in names:
            hint = did_you_mean(nearest(option, names)) or f" Its options: {', '.join(names)}."
            raise ValueError(f"Unknown option {option} for the method {name}.{hint}")
        check_kind(value, hints[option], f"Method {name}", option)
    return kind(**options)


def _check_positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 < number < float("inf"):
            raise ValueError(f"{name}={number} must be above 0.")
