"""Features on disk as a recipe or a protocol names them: how they lie in time, and which encoder made them."""

import json
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers.utils import logging

from internvideo_hf.data.features import FeatureFolder, FeatureSettings, feature_rule, settings_of
from internvideo_hf.data.records import ManifestError
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.protocol import FeatureFiles
from internvideo_hf.utils.names import reason_of

logger = logging.get_logger(__name__)

# Of a description beside features: what all videos of a folder share.
_RULE = ("window", "stride", "fps", "revision", "layer", "pooling")


@dataclass(frozen=True)
class OpenedFeatures:
    """The features of a data set, and what is known of them.

    Args:
        folder: the files.
        settings: how they lie in time.
        facts: encoder and window rule, which a model trained on them keeps (`config.features`).
        rates: frames a second of each video that has a description, unless the settings of the recipe say it.
        durations: seconds of each video whose description tells.
    """

    folder: FeatureFolder
    settings: FeatureSettings
    facts: dict[str, Any]
    rates: Mapping[str, float]
    durations: Mapping[str, float]


def open_folder(
    data: FeatureFiles, data_root: Path, videos: Iterable[str], trained_on: Mapping[str, Any] | None = None
) -> OpenedFeatures:
    """Open the features of videos.

    Args:
        data: settings of a recipe or a protocol.
        data_root: folder that the features are below.
        videos: ids.
        trained_on: `config.features` of the model that is evaluated; None in training, or if unknown.

    Raises:
        ManifestError: if there are no features, or those of different settings.
        RecipeError: if nothing says how they lie in time, or they are not those that the model was trained on.
    """
    first, *beside = [data_root / name for name in folders_of(data)]
    videos, folder = list(videos), FeatureFolder(first, data.prefix, beside)
    described = _descriptions(folder, videos)
    trained_on = feature_rule(trained_on)
    known = next(iter(described.values()), None)
    for other in folder.beside:
        _check_windows(known, next(iter(_descriptions(other, videos).values()), None), other.folder)
    if known is not None and beside:
        # No single encoder makes such features.
        known = {**known, "model": None, **dict.fromkeys(("revision", "layer", "pooling"))}
    facts = _facts(data, known, trained_on)
    _check_same(facts, trained_on, str(folder.folder))
    settings = replace(settings_of(facts), prefix=data.prefix)
    own_rate = data.stride is None
    rates = {name: facts["fps"] or known["rate"] for name, known in described.items()} if own_rate else {}
    durations = {name: known["duration"] for name, known in described.items() if known["duration"] is not None}
    return OpenedFeatures(folder, settings, facts, rates, durations)


def folders_of(data: FeatureFiles) -> list[str]:
    """Return the folders of features, one or several.

    Args:
        data: settings of a recipe or a protocol.

    Raises:
        RecipeError: if there is none, or a name is no text.
    """
    folders = [data.folder] if isinstance(data.folder, str) else data.folder
    if not folders or not all(isinstance(name, str) for name in folders):
        raise RecipeError(f"data.features.folder is {data.folder}, expected the name of a folder, or a list of names.")
    return folders


def _check_windows(known: Mapping[str, Any] | None, other: Mapping[str, Any] | None, folder: Path) -> None:
    """Refuse features beside others whose rows stand for other frames, as far as both say it."""
    for name in ("window", "stride", "fps"):
        if known is not None and other is not None and known[name] != other[name]:
            raise RecipeError(
                f"The features of {folder} have {name}={_shown(other[name])}, and those that they stand beside "
                f"{name}={_shown(known[name])}. Extract both with the same windows."
            )


def check_complete(missing: Sequence[str], found: Sized, folder: FeatureFolder, skip_missing: bool) -> None:
    """Refuse, or count, annotated videos without features.

    Args:
        missing: ids of those without.
        found: those with features.
        folder: of the features.
        skip_missing: warn of them only.

    Raises:
        ManifestError: if there are some, unless they are skipped.
    """
    if not missing:
        return
    cause = f"{len(missing)} of {len(missing) + len(found)} videos have no features, the first is {missing[0]}"
    if not skip_missing:
        raise ManifestError(str(folder.folder), None, cause, "Extract them, or set data.missing=skip.")
    logger.warning(f"{folder.folder}: {cause}; they are left out.")


def _descriptions(folder: FeatureFolder, videos: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return what `internvideo extract` says of each video's features; it must say the same of all."""
    found: dict[str, dict[str, Any]] = {}
    first: tuple[str, dict[str, Any]] | None = None
    for video in videos:
        file = folder.path_of(video).with_suffix(".json") if video in folder else None
        if file is None or not file.is_file():
            continue
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            known = {name: content[name] for name in ("model", "window", "stride")} | {"rate": content["fps"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ManifestError(
                str(file), None, f"it cannot be read ({reason_of(error)})", "Extract it again."
            ) from error
        known |= {name: content.get(name) for name in _RULE} | {"fps": content.get("sampled_fps")}
        known["duration"] = content.get("duration")
        first = first or (video, known)
        if changed := [name for name in _RULE if known[name] != first[1][name]]:
            cause = f"its {changed[0]} is {known[changed[0]]!r}, and that of {first[0]} {first[1][changed[0]]!r}"
            raise ManifestError(str(file), None, cause, "Extract all with the same settings.")
        found[video] = known
    return found


def _facts(
    data: FeatureFiles, known: Mapping[str, Any] | None, trained_on: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return encoder and window rule: those of the settings, of the descriptions, or of the model, in this order."""
    fixed = {} if data.fixed_length is None else {"fixed_length": data.fixed_length, "window_rows": data.num_frames}
    if data.stride is not None:
        rule = {"window": data.num_frames, "stride": data.stride, "fps": data.fps}
        return {"encoder": data.encoder, **rule, **fixed}
    if known is not None:
        rule = {name: known[name] for name in _RULE if known[name] is not None or name == "fps"}
        return {"encoder": data.encoder or known["model"], **rule, **fixed}
    if trained_on and ({"window", "stride"} <= set(trained_on) or "fixed_length" in trained_on):
        return {"fps": None, **trained_on, **fixed}
    if fixed:
        return {"encoder": data.encoder, "fps": data.fps, **fixed}
    raise RecipeError(
        "Nothing says which frames a row of the features stands for: `internvideo extract` writes it beside them, or "
        "set data.features.stride, num_frames and fps."
    )


def _check_same(facts: Mapping[str, Any], trained_on: Mapping[str, Any] | None, folder: str) -> None:
    for name in ("revision", "window", "stride", "fps", "fixed_length", "window_rows", "layer", "pooling"):
        ours, its = facts.get(name), (trained_on or {}).get(name)
        # No rate is each video's own, where windows are known.
        known = name == "fps" and all(rule.get("stride") for rule in (facts, trained_on or {}))
        if ours != its and (known or None not in (ours, its)):
            raise RecipeError(
                f"The features of {folder} have {name}={_shown(ours)}, and the model was trained on "
                f"{name}={_shown(its)}. Extract "
                f"them with {(trained_on or {}).get('encoder') or 'its encoder'} as it was done for training."
            )


def _shown(value: Any) -> str:
    return "that of each video" if value is None else str(value)
