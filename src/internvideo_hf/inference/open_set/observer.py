"""Classifiers that answer what a method of open-set recognition reads: logits, features, random passes, members."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.data.samples import Row
from internvideo_hf.inference.classifier import Classifier
from internvideo_hf.inference.merging import check_finite
from internvideo_hf.inference.open_set.methods import METHODS, Ensemble, Method, MonteCarloDropout, make_method
from internvideo_hf.inference.open_set.observations import Observations
from internvideo_hf.inference.open_set.scorer import OpenSetScorer, Subject
from internvideo_hf.inference.rows import Loader, Work, of_views, run_rows, video_name
from internvideo_hf.inference.runner import RunSettings, Views, cast_of, logits_of_views
from internvideo_hf.models.common.configuration import evidential_settings
from internvideo_hf.models.common.exported.modeling import ExportedModel
from internvideo_hf.models.common.narrowing import of_type
from internvideo_hf.utils.fingerprints import json_sha256
from internvideo_hf.utils.storage import AnyPath

_MEMBER = "/"  # between the number of a member and the name of its input


@dataclass(frozen=True)
class Observer:
    """A classifier with a method that reads its answers.

    Args:
        classifier: with its processor and views.
        method: tells which answers are read.
        members: the other classifiers of an ensemble, each with its own processor and views.
    """

    classifier: Classifier
    method: Method
    members: tuple[Classifier, ...] = ()

    @classmethod
    def of(cls, classifier: Classifier, method: Method) -> "Observer":
        """Return the observer of a method; the members of an ensemble are loaded beside the classifier.

        Args:
            classifier: of single labels.
            method: of open-set recognition.

        Raises:
            ValueError: if the method is for other models, or a member has other classes.
        """
        model = classifier.model
        if isinstance(model, ExportedModel) and ("features" in method.reads or isinstance(method, MonteCarloDropout)):
            raise ValueError(
                f"{classifier.name} is exported and gives logits alone, and the method reads features or random "
                "passes. Give the folder that it was exported from."
            )
        if isinstance(method, MonteCarloDropout) and method.rate is None and not _dropout_layers(model):
            raise ValueError(
                f"{classifier.name} has no dropout layers with a rate above 0. Set rate=0.5, the published rate of "
                "dropout before the last layer."
            )
        if not isinstance(method, Ensemble):
            return cls(classifier, method)
        if not method.members:
            raise ValueError("An ensemble needs other classifiers: set members=[FOLDER, ...].")
        where: dict[str, Any] = {"device": model.device, "dtype": cast_of(model)}
        members = tuple(Classifier.load(name, **where) for name in method.members)
        for member in members:
            if member.classes != classifier.classes:
                raise ValueError(
                    f"{member.name} has {len(member.classes)} classes, {classifier.name} {len(classifier.classes)}, "
                    "or they are in another order. Give members of the same classes."
                )
        return cls(classifier, method, members)

    @cached_property
    def subject(self) -> Subject:
        """What identifies the classifier and the members; `ValueError` if two of them have the same weights."""
        views = (self.classifier.num_clips, self.classifier.num_crops)
        own = Subject.of(self.classifier.model, views)
        if not self.members:
            return own
        prints = [own.fingerprint, *(Subject.of(member.model).fingerprint for member in self.members)]
        for place, (member, fingerprint) in enumerate(zip(self.members, prints[1:], strict=True), 1):
            if fingerprint in prints[:place]:
                raise ValueError(
                    f"The member {member.name} has the weights of {self.classifier.name} or of a member before it, so "
                    "that they never disagree. Give classifiers that were trained apart."
                )
        return Subject(f"sha256:{json_sha256(prints)[:32]}", own.classes, views)

    @property
    def reader(self) -> Callable[[Row], Views]:
        """Makes the views of a row for the classifier, and for each member; it holds no model."""
        return partial(_read, readers=[each.reader for each in (self.classifier, *self.members)])

    def read_members(self, row: Row) -> Views:
        """Make the views of a row for the members alone; their names in the views of `reader`.

        Args:
            row: as of `reader`.
        """
        return {
            f"{number}{_MEMBER}{name}": pixels
            for number, member in enumerate(self.members, 1)
            for name, pixels in member.views_of(row).items()
        }

    @property
    def _fields(self) -> set[str]:
        return {"logits", *self.method.reads}  # the classes come from the logits, whatever the score reads

    @property
    def _num_views(self) -> int:
        return self.classifier.num_clips * self.classifier.num_crops

    @torch.no_grad()
    def answers(self, views: Views, batch_size: int | None = None) -> dict[str, Tensor]:
        """Return fields of `Observations`, float32 on the CPU, `(videos, views, ...)` by name.

        Args:
            views: of several videos, from `reader`: `(videos, views, frames, channels, height, width)` each.
            batch_size: views per forward pass; all if None.
        """
        model = self.classifier.model
        own = {name: pixels for name, pixels in views.items() if _MEMBER not in name}
        shape = next(iter(own.values())).shape[:2]
        flat = {name: pixels.flatten(0, 1) for name, pixels in own.items()}
        found: dict[str, Tensor] = {}
        if "features" in self._fields or _drops_features(self.method):
            logits, features = logits_and_features(model, flat, batch_size)
            found["features"] = torch.unflatten(features, 0, shape)
        else:
            logits = logits_of_views(model, flat, batch_size)
        found["logits"] = torch.unflatten(logits, 0, shape)
        if isinstance(self.method, MonteCarloDropout):
            found["samples"] = self._passes(own, found, batch_size)
        elif isinstance(self.method, Ensemble):
            found["samples"] = self._of_members(views, found["logits"], batch_size)
        return {name: found[name].float().cpu() for name in self._fields}

    def _passes(self, views: Views, found: dict[str, Tensor], batch_size: int | None) -> Tensor:
        """Return the logits of random passes, `(videos, views, passes, classes)`; those of a video are its own."""
        method, model = self.method, self.classifier.model
        assert isinstance(method, MonteCarloDropout)
        samples = []
        for video in range(len(found["logits"])):
            own = {name: pixels[video] for name, pixels in views.items()}
            passes = []
            for number in range(method.passes):
                with _seeded(model, number * method.seed):
                    if method.rate is not None:
                        dropped = nn.functional.dropout(found["features"][video], method.rate)
                        passes.append(_first(of_type(model.classifier, nn.Module)(dropped)))
                    else:
                        with _dropping(model):
                            passes.append(logits_of_views(model, own, batch_size))
            samples.append(torch.stack(passes, dim=1))
        return torch.stack(samples)

    def _of_members(self, views: Views, own: Tensor, batch_size: int | None) -> Tensor:
        """Return the members' logits, each the mean over its views, `(videos, 1, members, classes)`."""
        means = [self._mean(own)]
        for number, member in enumerate(self.members, 1):
            mark = f"{number}{_MEMBER}"
            mine = {name.removeprefix(mark): pixels for name, pixels in views.items() if name.startswith(mark)}
            shape = next(iter(mine.values())).shape[:2]
            flat = {name: pixels.flatten(0, 1) for name, pixels in mine.items()}
            means.append(self._mean(torch.unflatten(logits_of_views(member.model, flat, batch_size), 0, shape)))
        return torch.stack(means, dim=1)[:, None]

    def _mean(self, logits: Tensor) -> Tensor:
        if self.method.merge == "score":
            return logits.mean(dim=1)
        return logits.double().softmax(dim=-1).mean(dim=1).clamp(min=1e-38).log().to(logits.dtype)

    def observe(
        self,
        rows: Sequence[Row],
        settings: RunSettings,
        parts: AnyPath | None = None,
        description: str = "Classifying",
    ) -> tuple[Observations, list[int], dict[str, str]]:
        """Answer for the videos of a list.

        Args:
            rows: see `internvideo_hf.inference.runner.read_views`; with `label`, all or none.
            settings: batches, workers, unreadable videos, progress bar.
            parts: a folder for finished parts, as of `Classifier.classify`.
            description: of the progress bar.

        Returns:
            The answers to the readable videos, with their labels; the numbers of these rows; and the causes of the
            others by `video_name`.

        Raises:
            TooManyFailuresError: if more than `settings.max_damaged` of the videos are unreadable.
            ValueError: if there are no videos, or a number is not finite.
        """
        if not rows:
            raise ValueError("The list has no videos. Give videos of the model's classes.")

        members = sum(member.num_clips * member.num_crops for member in self.members)
        work = Work(
            self.reader,
            partial(of_views, compute=partial(_answers, batch_size=settings.batch_size)),
            self._loader,
            self._num_views + members,
        )
        found, causes = run_rows(rows, self, work, settings, parts=parts, description=description)
        kept = [number for number in range(len(rows)) if number not in causes]
        tensors = {name: tensor[kept] for name, tensor in found.items()}
        if rows[0].get("label") is not None:
            tensors["labels"] = torch.tensor([rows[number]["label"] for number in kept], dtype=torch.int64)
        return Observations(**tensors), kept, {video_name(rows[number]): cause for number, cause in causes.items()}

    @property
    def _loader(self) -> Loader:
        own = self.classifier
        options = {"num_clips": own.num_clips, "num_crops": own.num_crops, "dtype": cast_of(own.model)}
        name = next(name for name, kind in METHODS.items() if kind is type(self.method))
        options |= {"method": name, "options": json.dumps(self.method.options())}
        return Loader(_load_observer, own.name, tuple(options.items()), "classifier.model")


def _load_observer(name: str, *, method: str, options: str, **classifier: Any) -> Observer:
    return Observer.of(Classifier.load(name, **classifier), make_method(method, **json.loads(options)))


def _answers(observer: Observer, views: Views, batch_size: int) -> dict[str, Tensor]:
    found = observer.answers(views, batch_size)
    for name, numbers in found.items():
        check_finite(numbers.numpy(), f"A number of the {name} of {observer.classifier.name}")
    return found


def scorer_for(
    classifier: Classifier, method: str, *, accepted: float = 0.95, rule: str = "accepted", **options: Any
) -> tuple[OpenSetScorer, Observer]:
    """Return a scorer that is not fitted yet, with the observer of what it reads.

    Args:
        classifier: of single labels.
        method: a name in `METHODS`.
        accepted: as of `OpenSetScorer`.
        rule: as of `OpenSetScorer`.
        options: of the method; the evidence is the model's own by default.

    Raises:
        ValueError: if a name is unknown, or the method is for other models.
    """
    if method == "evidential":
        options = {"evidence": evidential_settings(classifier.model.config).evidence} | options
    if isinstance(members := options.get("members"), list):  # found from any folder, once the scorer is saved
        options |= {"members": [str(Path(name).resolve()) if Path(name).is_dir() else name for name in members]}
    scorer = OpenSetScorer(method, accepted=accepted, rule=rule, **options)
    return scorer, Observer.of(classifier, scorer.method)


def logits_and_features(model: PreTrainedModel, views: Views, batch_size: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the logits of a classifier and the inputs of its `classifier`, `(views, ...)` each on its device.

    Args:
        model: a classifier.
        views: `(views, frames, channels, height, width)` for each input of the model.
        batch_size: views per forward pass; all if None.
    """
    seen: list[Tensor] = []
    hook = of_type(model.classifier, nn.Module).register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0])
    )
    try:
        logits = logits_of_views(model, views, batch_size)
    finally:
        hook.remove()
    return logits, torch.cat(seen)


def _read(row: Row, readers: Sequence[Callable[[Row], Views]]) -> Views:
    """Make the views of a row by several readers; the names of the first are plain."""
    found = dict(readers[0](row))
    for number, reader in enumerate(readers[1:], 1):
        found |= {f"{number}{_MEMBER}{name}": pixels for name, pixels in reader(row).items()}
    return found


def _first(output: Any) -> Tensor:
    """Return the logits of a head; those of the fused model come with the scores of its encoders."""
    logits: Tensor = output[0] if isinstance(output, tuple) else output
    return logits


def _drops_features(method: Method) -> bool:
    return isinstance(method, MonteCarloDropout) and method.rate is not None


def _dropout_layers(model: nn.Module) -> list[nn.Dropout]:
    return [module for module in model.modules() if isinstance(module, nn.Dropout) and module.p > 0]


@contextmanager
def _dropping(model: nn.Module) -> Iterator[None]:
    """Put the dropout layers of a model in training mode, and nothing else of it."""
    layers = _dropout_layers(model)
    try:
        for layer in layers:
            layer.train()
        yield
    finally:
        for layer in layers:
            layer.eval()


@contextmanager
def _seeded(model: PreTrainedModel, seed: int) -> Iterator[None]:
    """Seed the draws on a model's device, and restore the state of the draws of others."""
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
