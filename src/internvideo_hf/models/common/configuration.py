"""What the configurations of all models, and those of all classifiers of videos, share."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig
from transformers.models.auto import modeling_auto

from internvideo_hf.models.common.evidential import EvidentialSettings
from internvideo_hf.models.common.sentence_transformers import write_modules
from internvideo_hf.utils.loader import SavedWithLoader
from internvideo_hf.utils.names import did_you_mean, nearest

_OPTIONAL = ("label_heads", "evidential", "points_of_video")


@strict
class VideoConfig(SavedWithLoader, PreTrainedConfig):
    """The base of all configurations that a folder's `config.json` holds."""

    def __post_init__(self, **kwargs: Any) -> None:
        kwargs.pop("auto_map", None)  # of the folder, not of the model; written again where this is saved
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]

    def auto_classes(self) -> dict[str, str]:
        """Return the Auto classes of transformers that load the folder -> the names of the classes they return."""
        models = {name: model_class.__name__ for name, model_class in self._model_classes().items()}
        return {"AutoConfig": type(self).__name__, **models}

    def to_json_file(self, json_file_path: Any, *args: Any, **kwargs: Any) -> None:
        """Write the settings, and beside them what other libraries need to load the model.

        Args:
            json_file_path: the file.
            args: see transformers' `to_json_file`.
            kwargs: see there.
        """
        super().to_json_file(json_file_path, *args, **kwargs)
        if self._is_dual_encoder():
            write_modules(Path(json_file_path).parent)

    def _is_dual_encoder(self) -> bool:
        """Return whether the model that is saved embeds videos and texts in one space."""
        methods = ("get_video_features", "get_text_features")
        return getattr(self, "projection_dim", None) is not None and any(
            model_class.__name__ in (self.architectures or ()) and all(hasattr(model_class, name) for name in methods)
            for model_class in self._model_classes().values()
        )

    def _model_classes(self) -> dict[str, type]:
        """Return the Auto classes that load the folder -> the model classes."""
        classes = {}
        for name, auto_class in vars(modeling_auto).items():
            mapping = getattr(auto_class, "_model_mapping", None)
            if name.startswith("AutoModel") and mapping is not None and type(self) in mapping:
                model_class = mapping[type(self)]
                if name == "AutoModel" or model_class.__name__ in (self.architectures or ()):
                    classes[name] = model_class
        return classes


@strict
class ClassifierConfig(VideoConfig):
    """Fields of the classification heads, which encoders and models without a head do not read.

    Args:
        label_heads: of a classifier with several answers to a clip, name of each -> its classes, such as
            `{"verb": ["cut", "wash"], "noun": ["onion"]}`; a clip has one class of each. The logits of all stand side
            by side, in this order, and `id2label` has names such as "verb: cut". None for one answer.
        evidential: fields of `internvideo_hf.models.common.evidential.EvidentialSettings`, of an open-set classifier;
            None for the published ones.
        points_of_video: of a hand predictor, whether its numbers are pixels of the video as it was annotated, as of
            the released one, whatever was cut off or resized; otherwise pixels of the clip that it sees.

    Raises:
        StrictDataclassClassValidationError: where two values do not fit each other.
    """

    label_heads: dict[str, list[str]] | None = None
    evidential: dict[str, Any] | None = None
    points_of_video: bool | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.label_heads is not None and self.id2label is None and kwargs.get("num_labels") is None:
            self.id2label = dict(enumerate(names_of_heads(self.label_heads)))
            self.label2id = {name: number for number, name in self.id2label.items()}
        super().__post_init__(**kwargs)
        if self.label_heads is not None:  # config.json sorts them, and the classes are numbered
            places = {name: number for number, name in (self.id2label or {}).items()}
            first = {head: places.get(f"{head}: {names[0]}", -1) for head, names in self.label_heads.items() if names}
            self.label_heads = dict(sorted(self.label_heads.items(), key=lambda head: first.get(head[0], -1)))

    def validate_architecture(self) -> None:
        super().validate_architecture()  # type: ignore[no-untyped-call]
        evidential_settings(self)
        if self.label_heads is None:
            return
        classes, given = names_of_heads(self.label_heads), self.id2label or {}
        if not all(self.label_heads.values()) or dict(enumerate(classes)) != given:
            raise ValueError(
                f"label_heads has {len(classes)} classes in {len(self.label_heads)} heads, and id2label has "
                f"{len(given)} classes or others. Give each head a class or more; leave out num_labels and id2label."
            )
        if self.problem_type not in (None, "single_label_classification"):
            raise ValueError(
                f"problem_type={self.problem_type!r} does not suit label_heads, each of which has one class for a "
                "clip. Leave one of them out."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return all fields; those above only where they are set, as earlier versions wrote other models."""
        content: dict[str, Any] = super().to_dict()
        return {name: value for name, value in content.items() if name not in _OPTIONAL or value is not None}


def names_of_heads(heads: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names of the classes of several heads, in the order of the logits, such as "verb: cut".

    Args:
        heads: name -> its classes.
    """
    return [f"{head}: {name}" for head, names in heads.items() for name in names]


def head_slices(config: PreTrainedConfig) -> dict[str, slice]:
    """Return the place of each head's classes among the logits, by name of the head; empty for a model of one answer.

    Args:
        config: of a classifier.
    """
    return slices_of(getattr(config, "label_heads", None) or {})


def slices_of(heads: Mapping[str, Sequence[str]]) -> dict[str, slice]:
    """Return the place of each head's classes among the logits, by name of the head.

    Args:
        heads: name -> its classes.
    """
    slices, start = {}, 0
    for name, names in heads.items():
        slices[name] = slice(start, start + len(names))
        start += len(names)
    return slices


def evidential_settings(config: PreTrainedConfig) -> EvidentialSettings:
    """Return the evidence and the loss of an open-set classifier.

    Args:
        config: of a classifier.

    Raises:
        ValueError: if a field is unknown, or a value of the wrong type or out of range.
    """
    given: dict[str, Any] = getattr(config, "evidential", None) or {}
    known = [entry.name for entry in fields(EvidentialSettings)]
    if unknown := [name for name in given if name not in known]:
        raise ValueError(
            f"evidential has the unknown field {unknown[0]}.{did_you_mean(nearest(unknown[0], known))} Its fields are "
            f"those of EvidentialSettings: {', '.join(known)}."
        )
    try:
        return EvidentialSettings(**given)
    except TypeError as error:
        raise ValueError(f"evidential={given} has a value of the wrong type: {error}.") from error


__all__ = ["ClassifierConfig", "VideoConfig"]
