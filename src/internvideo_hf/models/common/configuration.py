"""What the configurations of all classifiers of videos share."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.models.common.evidential import EvidentialSettings

_OPTIONAL = ("evidential",)


@strict
class ClassifierConfig(PreTrainedConfig):
    """Fields of the classification heads, which encoders and models without a head do not read.

    Args:
        evidential: fields of `internvideo_hf.models.common.evidential.EvidentialSettings`, of an open-set classifier;
            None for the published ones.

    Raises:
        StrictDataclassClassValidationError: where two values do not fit each other.
    """

    evidential: dict[str, Any] | None = None

    def validate_architecture(self) -> None:
        super().validate_architecture()  # type: ignore[no-untyped-call]
        evidential_settings(self)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields; those above only where they are set, as earlier versions wrote other models."""
        content: dict[str, Any] = super().to_dict()
        return {name: value for name, value in content.items() if name not in _OPTIONAL or value is not None}


def evidential_settings(config: PreTrainedConfig) -> EvidentialSettings:
    """Return the evidence and the loss of an open-set classifier.

    Args:
        config: of a classifier.

    Raises:
        ValueError: if a field is unknown or out of range.
    """
    given: dict[str, Any] = getattr(config, "evidential", None) or {}
    try:
        return EvidentialSettings(**given)
    except TypeError as error:
        raise ValueError(f"evidential={given}: {error}; its fields are those of EvidentialSettings.") from error


__all__ = ["ClassifierConfig"]
