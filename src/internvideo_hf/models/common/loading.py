"""Strict model loading, revision fingerprints, class names."""

import pickle
from pathlib import Path

from safetensors import SafetensorError
from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.models.auto.auto_factory import _BaseAutoModelClass

from internvideo_hf.models.common.exported.manifest import EXPORT_FILE, is_exported
from internvideo_hf.utils.fingerprints import files_sha256
from internvideo_hf.utils.names import listed, with_article
from internvideo_hf.utils.pretrained import load_pretrained, shard_names


def load_strict(model_class: type[_BaseAutoModelClass] | type[PreTrainedModel], model: str | Path) -> PreTrainedModel:
    """Load a model and fail if any weight is missing; transformers would initialize it randomly and only warn.

    Args:
        model_class: an Auto class, or a model class.
        model: a folder, or a name on the Hub.

    Raises:
        ValueError: if weights are missing, misshapen or damaged, or the folder holds a model for another task.
    """
    loaded: PreTrainedModel
    try:
        loaded, loading = load_pretrained(model_class, model, output_loading_info=True)
    except SafetensorError as error:
        raise ValueError(f"The weights of {model} are damaged ({error}). Convert or download it again.") from error
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"The weights of {model} are damaged, or hold code, which is not run. Get them as model.safetensors."
        ) from error
    gaps = sorted(loading["missing_keys"]) + sorted(str(entry[0]) for entry in loading["mismatched_keys"])
    if not gaps:
        return loaded
    architectures = loaded.config.architectures or []
    there = {name.split(".")[0] for name in loaded.state_dict() if name not in gaps}
    if architectures and not there & {name.split(".")[0] for name in gaps}:  # whole parts are missing, not weights
        expected = with_article(type(loaded).__name__)
        raise ValueError(f"{model} holds {with_article(architectures[0])}, expected {expected}.")
    raise ValueError(f"{model} lacks weights: {listed(gaps, 3)}. Convert or download it again.")


def check_classifier(model: str | Path) -> PreTrainedConfig:
    """Refuse a model that is not a classifier, before anything else is done, and return its configuration.

    Args:
        model: a folder, or a name on the Hub.

    Raises:
        ValueError: if it is not one.
    """
    config: PreTrainedConfig = load_pretrained(AutoConfig, model)
    architecture = (config.architectures or [""])[0]
    if architecture and not architecture.endswith(("ForVideoClassification", "ForOpenSetClassification")):
        raise ValueError(
            f"{model} is not a classifier: it holds {with_article(architecture)}. Give a fine-tuned model, such as "
            "one that `internvideo convert` made of a classifier's checkpoint."
        )
    return config


def revision(name: str | Path, model: PreTrainedModel) -> str:
    """Return what identifies a model's weights: its commit on the Hub, or the hash of a folder's files.

    Args:
        name: the folder, or the name on the Hub.
        model: loaded from there.
    """
    if commit := getattr(model.config, "_commit_hash", None):
        return str(commit)
    if is_exported(name):  # whose manifest has the hashes of all other files
        return f"sha256:{files_sha256(name, ('config.json', EXPORT_FILE))[:16]}"
    patterns: tuple[str, ...] = ("config.json", "*.safetensors", "*.bin")
    for index in Path(name).glob("*.index.json"):
        if set(shard_names(index)) != {file.name for file in Path(name).glob(f"*{Path(index.name[:-11]).suffix}")}:
            # Only the index says which of the files are loaded.
            patterns = (*patterns, index.name)
    return f"sha256:{files_sha256(name, patterns)[:16]}"


def check_revision(name: str, found: str, expected: str) -> None:
    """Refuse a model that a worker has loaded, and that is not the one of the run.

    Args:
        name: its folder, or its name on the Hub.
        found: its `revision`.
        expected: that of the process of the run.

    Raises:
        ValueError: if they differ.
    """
    if found != expected:
        raise ValueError(
            f"A worker finds another model at {name}: its revision is {found}, that of the run {expected}. Put the "
            "same model there on all machines."
        )


def classes_of(config: PreTrainedConfig) -> list[str]:
    """Return the names of the classes in the order of a classifier's scores, however its config.json is sorted.

    Args:
        config: of a classifier.
    """
    names: dict[int, str] = config.id2label  # type: ignore[assignment]  # the configuration makes numbers of its keys
    return [names[number] for number in range(len(names))]
