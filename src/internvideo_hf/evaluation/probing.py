"""Probing: how well small classifiers tell classes apart by the features of a frozen encoder, of any family.

The encoder sees each clip once, as its processor is configured, with one view. Its features stay in the output folder,
so that other probes, numbers of clips and seeds need no model any more. A seed draws the training clips of each class,
what is held out of them to choose penalty or learning rate, and the first weights of the probe. Draws depend on the
names of the clips, not on the order of the list, and 5 clips of a class contain the 1 of the same seed.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from internvideo_hf.data.contents import list_sha256, stamp_if_there
from internvideo_hf.data.failures import FailureTable
from internvideo_hf.data.finding import VIDEO_SUFFIXES
from internvideo_hf.data.manifests import find_classes, read_manifest
from internvideo_hf.data.records import ManifestError
from internvideo_hf.data.samples import Row
from internvideo_hf.evaluation.probes import Settings, Training, fit
from internvideo_hf.inference.embedder import pixel_settings
from internvideo_hf.inference.encoders import VideoEncoder
from internvideo_hf.inference.merging import check_finite, top_k_accuracies
from internvideo_hf.inference.rows import Loader, Work, of_views, run_rows, video_name
from internvideo_hf.inference.runner import RunSettings, Views, cast_of, read_views
from internvideo_hf.tasks.protocol import model_facts, unique_clips
from internvideo_hf.utils.devices import default_device
from internvideo_hf.utils.files import atomic_write_text, check_output
from internvideo_hf.utils.fingerprints import json_sha256
from internvideo_hf.utils.locks import lock_folder
from internvideo_hf.video.sources import is_url

ALL = "all"
"""In place of a number of clips of each class: all that the list has."""
RESULT = "result.json"
TEST_PART = 0.3
"""Ratio of each class that is kept for the test where there is no list of test clips."""
_TOKENS = torch.float16  # they are many, and a probe needs no more
_CLIP = (480, 640, 3)  # of the blank frames that show how large features are


@dataclass(frozen=True)
class Clips:
    """Labelled clips of a list.

    Args:
        rows: distinct clips, in order.
        labels: of each, `(clips,)`.
    """

    rows: list[Row]
    labels: np.ndarray

    @property
    def names(self) -> list[str]:
        """Names of the clips."""
        return [video_name(row) for row in self.rows]

    def part(self, places: np.ndarray) -> "Clips":
        """Return some of the clips.

        Args:
            places: their numbers.
        """
        return Clips([self.rows[place] for place in places], self.labels[places])


@dataclass(frozen=True)
class Features:
    """Features of clips by a frozen encoder.

    Args:
        rows: `(clips, ...)`.
        is_there: whether each clip could be read, `(clips,)`, bool.
    """

    rows: torch.Tensor
    is_there: np.ndarray


class ClipEncoder:
    """A frozen encoder of whole clips, as its processor samples and processes them, with one view.

    Args:
        model: folder or name of any encoder, see `VideoEncoder`.
        features: "pooled", or "tokens".
        device: where it runs; the accelerator if there is one.
        dtype: number type in which it runs; as saved if None.
    """

    def __init__(
        self, model: str | Path, features: str, device: str | torch.device | None = None, dtype: str | None = None
    ):
        pooling = "tokens" if features == "tokens" else "auto"
        self.encoder, self.features = VideoEncoder(model, pooling=pooling, device=device, dtype=dtype), features
        self._shape: torch.Size | None = None

    @property
    def model(self) -> Any:
        """The model."""
        return self.encoder.model

    @property
    def reader(self) -> Callable[[Row], Views]:
        """Makes the view of a row; it holds no model."""
        return partial(read_views, processor=self.encoder.processor, num_clips=1, num_crops=1)

    @property
    def facts(self) -> dict[str, Any]:
        """What a result says of model and pixels."""
        return {**model_facts(self.model), "pixels": pixel_settings(self.encoder.processor)}

    @property
    def identity(self) -> list[Any]:
        """What its features depend on."""
        return [self.encoder.revision, cast_of(self.model), pixel_settings(self.encoder.processor), self.features]

    def encode(self, views: Views) -> dict[str, torch.Tensor]:
        """Return the features of clips, `(clips, dim)` float32, or `(clips, tokens, dim)` in half precision.

        Args:
            views: one of each clip.

        Raises:
            ValueError: if they have another shape than those of other clips.
        """
        (pixels,) = views.values()
        found = self.encoder.encode(torch.as_tensor(pixels).flatten(0, 1))
        if self._shape not in (None, found.shape[1:]):
            raise ValueError(
                f"{self.encoder.name} gives clips of other sizes other numbers of tokens, and an attentive probe "
                "needs equal ones. Let its processor crop frames (do_center_crop, crop_size), or take --kind linear."
            )
        self._shape = found.shape[1:]
        found = found.to(_TOKENS) if self.features == "tokens" else found
        check_finite(found.numpy(), f"A feature of {self.encoder.name}")
        return {self.features: found}

    def shape(self) -> tuple[int, ...]:
        """Return the shape of the features of a clip, of black frames.

        Raises:
            ValueError: if clips have different numbers of tokens.
        """
        processor = self.encoder.processor
        if self.features == "tokens" and getattr(processor, "is_variable", False):
            raise ValueError(
                f"{self.encoder.name} samples frames by the second, so that clips have different numbers of tokens, "
                "and an attentive probe needs equal ones. Set num_frames in its video_preprocessor_config.json."
            )
        blank = self.encoder.process(np.zeros((processor.num_frames, *_CLIP), np.uint8))
        return tuple(self.encode({"pixels": blank[None, None]})[self.features].shape[1:])


def read_clips(source: str | Path, data_root: str | Path | None, classes: Sequence[str] | None = None) -> Clips:
    """Read a list of labelled clips, or a folder of clips by class.

    Args:
        source: as of `read_manifest`.
        data_root: folder that its paths begin in; the list's own if None.
        classes: names of the classes, in order; those of the list if None.

    Raises:
        ManifestError: if the list is invalid, a row has no label or another class, or a clip has two labels.
    """
    own = find_classes(source)
    names = list(classes or own)
    if others := [name for name in own if name not in names]:
        raise ManifestError(
            str(source), None, f"class {others[0]!r} has no training clips", "Give lists of the same classes."
        )
    rows = list(read_manifest(source, data_root, labels=names, check_files=False))
    if any(row["label"] is None for row in rows) or not names:
        raise ManifestError(
            str(source), None, "it has clips without a label", "Give a list with columns video, label."
        )
    videos, owners = unique_clips(rows)
    labels = np.full(len(videos), -1)
    for row, owner in zip(rows, owners.tolist(), strict=True):
        if labels[owner] not in (-1, row["label"]):
            both = f"{names[labels[owner]]!r} and {names[row['label']]!r}"
            cause = f"{video_name(videos[owner])} has two labels, {both}"
            raise ManifestError(str(source), None, cause, "Keep one of the rows.")
        labels[owner] = row["label"]
    return Clips(videos, labels)


def split_test(clips: Clips, ratio: float = TEST_PART) -> tuple[Clips, Clips]:
    """Divide the clips of one list into those to train on and those to test on, the same for every seed.

    Args:
        clips: of the list.
        ratio: of each class for the test, at least one clip.

    Raises:
        ValueError: if a class has one clip.
    """
    test: list[int] = []
    for places in _by_class(clips):
        if len(places) < 2:
            name = clips.names[places[0]]
            is_file = is_url(name) or name.lower().endswith(VIDEO_SUFFIXES)
            raise ValueError(
                f"{name} is the only clip of its class, and one is needed for the test. Add others, or give the clips "
                "to test on by --validation."
                + ("" if is_file else " If the list begins with a header, name its columns video, label.")
            )
        order = np.random.default_rng(0).permutation(places)
        test += order[: max(1, round(ratio * len(order)))].tolist()
    is_test = np.isin(np.arange(len(clips.rows)), test)
    return clips.part(np.flatnonzero(~is_test)), clips.part(np.flatnonzero(is_test))


def draw(clips: Clips, shots: int | str, seed: int, is_there: np.ndarray) -> np.ndarray:
    """Return the numbers of the training clips of a seed, so many of each class.

    Args:
        clips: of the training list.
        shots: clips of each class, or `ALL`.
        seed: of the draw.
        is_there: which clips could be read.
    """
    found: list[int] = []
    for number, places in enumerate(_by_class(clips)):
        order = np.random.default_rng([seed, number]).permutation(places)
        order = order[is_there[order]]
        found += order[: None if shots == ALL else int(shots)].tolist()
    return np.array(sorted(found))


def check_shots(clips: Clips, shots: Sequence[int | str], classes: Sequence[str], is_there: np.ndarray) -> None:
    """Refuse a single class, and numbers of clips that a class does not have.

    Args:
        clips: of the training list.
        shots: clips of each class, or `ALL`.
        classes: their names.
        is_there: which clips could be read.

    Raises:
        ValueError: naming the class.
    """
    if len(classes) < 2:
        raise ValueError(
            f"All clips are of one class, {classes[0]!r}, and a probe tells classes apart. Add clips of another."
        )
    counts = Counter(clips.labels[is_there].tolist())
    number, least = min(((counts[label], label) for label in range(len(classes))), key=lambda pair: pair[0])
    wanted = max((int(shot) for shot in shots if shot != ALL), default=1)
    if number < wanted:
        few = sum(counts[label] < wanted for label in range(len(classes)))
        others = {1: "", 2: ", and 1 other class has too few"}
        also = others.get(few, f", and {few - 1} other classes have too few")
        raise ValueError(
            f"{wanted} clips of each class are asked for, and {classes[least]!r} has {number} to train on{also}. Take "
            f"fewer (--shots), or add clips{' that can be read' if not is_there.all() else ''}."
        )


def extract(
    model: str | Path,
    features: str,
    rows: Sequence[Row],
    out: Path,
    settings: RunSettings,
    *,
    device: str | torch.device | None = None,
    dtype: str | None = None,
    max_memory: float = 8.0,
) -> tuple[Features, dict[str, Any], dict[int, str], str]:
    """Return the features of clips, from the output folder as far as they are there.

    Args:
        model: as of `ClipEncoder`.
        features: "pooled" or "tokens".
        rows: the clips.
        out: the output folder.
        settings: batches, workers, unreadable videos, progress bar.
        device: where the model runs.
        dtype: number type in which it runs.
        max_memory: the most gigabytes that they may take.

    Returns:
        The features; facts of the model; causes of unreadable clips by number; and what identifies the features.

    Raises:
        TooManyFailuresError: if too many clips are unreadable.
        ValueError: if they take more memory than they may.
    """
    encoder = ClipEncoder(model, features, device, dtype)
    shape = encoder.shape()
    needed = len(rows) * math.prod(shape) * (2 if features == "tokens" else 4) / 1e9
    if needed > max_memory:
        raise ValueError(
            f"The {features} of {len(rows)} clips, {' x '.join(map(str, shape))} each, take {needed:.1f} GB, more "
            f"than --max-memory={max_memory:g}. Raise it, or take the linear probe, which needs one vector of a clip "
            "(--kind linear), or a shorter list."
        )
    check_output(out, int(2e9 * needed))
    stamped = [
        [name, *stamp_if_there(str(row["video"]))] for name, row in zip(map(video_name, rows), rows, strict=True)
    ]
    key = json_sha256([encoder.identity, stamped])[:16]
    work = Work(
        encoder.reader,
        partial(of_views, compute=ClipEncoder.encode),
        Loader(ClipEncoder, str(encoder.encoder.name), (("features", features), ("dtype", dtype)), "model"),
    )
    found, causes = run_rows(
        rows, encoder, work, settings, parts=out / "features" / key, description=f"Extracting {features}"
    )
    table = found.get(features, torch.full((len(rows), *shape), torch.nan))
    is_there = np.ones(len(rows), dtype=bool)
    is_there[list(causes)] = False
    facts = {"name": str(model), **encoder.facts, "dim": shape[-1], **({"tokens": shape[0]} if shape[1:] else {})}
    return Features(table, is_there), facts, causes, key


def probe(
    model: str | Path,
    source: str | Path,
    probes: Mapping[str, Settings],
    out: Path,
    *,
    validation: str | Path | None = None,
    data_root: str | Path | None = None,
    shots: Sequence[int | str] = (ALL,),
    seeds: int = 5,
    settings: RunSettings | None = None,
    device: str | torch.device | None = None,
    dtype: str | None = None,
    max_memory: float = 8.0,
    retry: bool = False,
    on_fit: Callable[[int, int], object] = lambda done, total: None,
) -> dict[str, Any]:
    """Train probes on the features of a frozen encoder, and test them.

    Args:
        model: folder or name of any video encoder, see `inference.stock`.
        source: list of labelled training clips, or a folder of clips by class.
        probes: recipes by name, see `probes.load_probe`.
        out: folder of features, of what was trained so far, and of `result.json`.
        validation: list of clips to test on; a fixed part of each class of `source` if None.
        data_root: folder that paths of the lists begin in; the lists' own if None.
        shots: clips of each class to train on, or `ALL`.
        seeds: the number of draws, 0, 1, ...
        settings: batches, decoding workers, unreadable videos, progress bars.
        device: where models and probes run; the accelerator if there is one.
        dtype: number type in which the encoder runs; as saved if None.
        max_memory: the most gigabytes that features may take.
        retry: also try again what killed or hung its decoder in an earlier run.
        on_fit: progress callback `(done, total)`, in trained probes.

    Returns:
        The content of `result.json`: `model`, `data`, `probes`, `scores` (a row for each probe and number of clips),
        `damaged`.

    Raises:
        ManifestError: if a list is invalid.
        ValueError: if there is one class, or a class has too few clips.
        TooManyFailuresError: if too many clips are unreadable. A few are left out of the training, and count as wrong
            in the test.
        LockedError: if another process writes into the folder.
    """
    settings = settings or RunSettings()
    if seeds < 1 or not shots or any(shot != ALL and int(shot) < 1 for shot in shots):
        raise ValueError(f"seeds={seeds}, shots={list(shots)}: expected 1 or more of each (--seeds, --shots).")
    classes = find_classes(source)
    clips = read_clips(source, data_root, classes)
    train, test = split_test(clips) if validation is None else (clips, read_clips(validation, data_root, classes))
    check_shots(train, shots, classes, np.ones(len(train.rows), dtype=bool))
    if both := set(train.names) & set(test.names):
        raise ValueError(f"{min(both)} is both in {source} and in {validation}. Test on clips that train no probe.")
    rows, cut = [*train.rows, *test.rows], len(train.rows)
    labels = [train.labels.tolist(), test.labels.tolist()]
    facts: dict[str, Any] = {}
    with lock_folder(out), FailureTable(out / "failures.jsonl", "probe", retry=retry) as failures:
        run = replace(settings, failures=failures)
        fits = _Fits(out / "fits.json")
        scores: list[dict[str, Any]] = []
        done, total = 0, len(probes) * len(shots) * seeds
        for name, recipe in probes.items():
            where: dict[str, Any] = {"device": device, "dtype": dtype, "max_memory": max_memory}
            features, facts, causes, key = extract(model, recipe.features, rows, out, run, **where)
            check_shots(train, shots, classes, features.is_there[:cut])
            # What could not be read may be readable in a later run, with the same key.
            there = features.is_there.tolist()
            for shot in shots:
                fitted = []
                for seed in range(seeds):
                    places = draw(train, shot, seed, features.is_there[:cut])
                    about = [key, asdict(recipe), shot, seed, *labels, cut, there]
                    one = partial(_fit, recipe, features, places, train, test, len(classes), seed, device)
                    fitted.append(fits.get(json_sha256(about), one))
                    on_fit(done := done + 1, total)
                scores.append({"probe": name, "shots": shot, **_summary(fitted)})
    result = {
        "model": facts,
        "data": {
            "train": {"list": str(source), "sha256": list_sha256(str(source)), "clips": cut},
            "test": _about_test(source, validation, len(rows) - cut),
            "classes": classes,
            "chance": max(Counter(test.labels.tolist()).values()) / len(test.rows) * 100,
        },
        "probes": {name: asdict(recipe) for name, recipe in probes.items()},
        "seeds": seeds,
        "scores": scores,
        "damaged": [
            {"video": video_name(rows[number]), "cause": cause, "of": "train" if number < cut else "test"}
            for number, cause in causes.items()
        ],
        "versions": {"torch": torch.__version__},
    }
    text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
    atomic_write_text(out / RESULT, text)
    written: dict[str, Any] = json.loads(text)
    return written


def table(result: Mapping[str, Any]) -> str:
    """Return a result as text: a row for each probe and number of clips, with the interval of the mean over seeds.

    Args:
        result: of `probe`.
    """
    model, data, seeds = result["model"], result["data"], result["seeds"]
    damaged = Counter(entry["of"] for entry in result["damaged"])
    tokens = f", {model['tokens']} tokens" if "tokens" in model else ""
    lines = [
        f"  model   {model['name']} ({model['family']}, {model['parameters']:,} parameters; {model['dim']} channels"
        f"{tokens})",
        f"  train   {data['train']['clips']} clips of {data['train']['list']}, {damaged['train']} unreadable and left "
        "out",
        f"  test    {data['test']['clips']} clips of {data['test']['list']}, {damaged['test']} unreadable and wrong",
        f"  classes {len(data['classes'])}; always the most frequent: {data['chance']:.1f}",
        "",
        f"{'probe':12} {'clips a class':>13} {'top-1, %':>16}"
        + (f" {'top-5, %':>16}" if "top-5" in result["scores"][0] else ""),
    ]
    for row in result["scores"]:
        cells = [_cell(row[name]) for name in ("top-1", "top-5") if name in row]
        lines.append(f"{row['probe']:12} {row['shots']!s:>13} " + " ".join(f"{cell:>16}" for cell in cells))
    lines.append("")
    lines.append(
        f"Mean over {seeds} seeds and its 95 % confidence interval (Student's t)."
        if seeds > 1
        else "One seed, so that there is no confidence interval (--seeds)."
    )
    return "\n".join(lines)


def t_quantile(freedom: int, within: float = 0.95) -> float:
    """Return the t within which so much of Student's distribution lies on both sides of 0.

    Args:
        freedom: degrees of freedom, 1 or more.
        within: above 0 and below 1.
    """
    # With t = sqrt(freedom) tan(angle), the density is a power of the cosine of the angle.
    angles = np.linspace(0, math.pi / 2, 200_001)
    density = np.cos(angles) ** (freedom - 1)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return float(math.sqrt(freedom) * math.tan(np.interp(within * mass[-1], mass, angles)))


def _cell(score: Mapping[str, Any]) -> str:
    half = score["confidence"]
    return f"{score['mean']:.1f}" + ("" if half is None else f" ± {half:.1f}")


def _summary(fitted: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean and half the width of the 95 % confidence interval of each score, and all that they come from."""
    about: dict[str, Any] = {}
    for name in ("top-1", "top-5"):
        values = [one["scores"][name] for one in fitted if name in one["scores"]]
        if values:
            error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
            half = None if error is None else t_quantile(len(values) - 1) * error
            about[name] = {"mean": float(np.mean(values)), "confidence": half, "seeds": values}
    return {**about, **{name: [one[name] for one in fitted] for name in ("chosen", "held_out", "clips")}}


def _fit(
    recipe: Settings,
    features: Features,
    places: np.ndarray,
    train: Clips,
    test: Clips,
    classes: int,
    seed: int,
    device: str | torch.device | None,
) -> dict[str, Any]:
    """Train a probe on some of the training clips, and test it."""
    labels = torch.from_numpy(train.labels[places])
    training = Training(features.rows[torch.from_numpy(places)], labels, classes, default_device(device))
    fitted = fit(recipe, training, seed)
    scores = np.full((len(test.rows), classes), np.nan)
    there = features.is_there[len(train.rows) :]
    rows = features.rows[len(train.rows) :][torch.from_numpy(there)]
    scores[there] = fitted.score(rows).double().numpy() if len(rows) else 0
    found = top_k_accuracies(scores, test.labels)
    kept = {name: found[name] for name in ("top-1", "top-5") if name in found and (name == "top-1" or classes > 5)}
    return {"scores": kept, "chosen": fitted.chosen, "held_out": fitted.held_out, "clips": len(places)}


def _by_class(clips: Clips) -> list[list[int]]:
    """Return the numbers of the clips of each class, in the order of their names."""
    names = clips.names
    found: list[list[int]] = [[] for _ in range(int(clips.labels.max()) + 1)]
    for place in sorted(range(len(names)), key=names.__getitem__):
        found[int(clips.labels[place])].append(place)
    return found


def _about_test(source: str | Path, validation: str | Path | None, clips: int) -> dict[str, Any]:
    if validation is None:
        return {"list": f"{source}, {TEST_PART:.0%} of each class", "sha256": None, "clips": clips}
    return {"list": str(validation), "sha256": list_sha256(str(validation)), "clips": clips}


class _Fits:
    """What was trained and tested so far, in a file, so that an interrupted run goes on.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path):
        self._path = path
        try:
            self._known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON ({error}). Delete it.") from error
        if not (isinstance(self._known, dict) and all(isinstance(one, dict) for one in self._known.values())):
            raise ValueError(f"{path} is no table of trained probes. Delete it.")

    def get(self, key: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what is known by a key, or compute and keep it."""
        if key not in self._known:
            self._known[key] = compute()
            atomic_write_text(self._path, json.dumps(self._known))
        found: dict[str, Any] = self._known[key]
        return found
