"""Saving and loading of the fused model: the two encoders in their own folders, the adapters in another."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_NAME, cached_file

from internvideo_hf.models.common.base import VideoPreTrainedModel
from internvideo_hf.models.common.loading import classes_of, load_strict
from internvideo_hf.models.common.narrowing import known
from internvideo_hf.models.internvideo.configuration_internvideo import InternVideoConfig
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae import InternVideoMAEForVideoClassification
from internvideo_hf.models.uniformerv2.modeling_uniformerv2 import UniFormerV2ForVideoClassification
from internvideo_hf.utils.fingerprints import tensors_sha256
from internvideo_hf.utils.names import with_article

ENCODERS: dict[str, type[PreTrainedModel]] = {
    "internvideo_mae": InternVideoMAEForVideoClassification,
    "uniformerv2": UniFormerV2ForVideoClassification,
}
# Prefixes of names in the two classifiers -> in the fused one.
PREFIXES = {
    "internvideo_mae": {
        "internvideo_mae.": "internvideo.internvideo_mae.",
        "classifier.": "classifier.internvideo_mae.",
    },
    "uniformerv2": {
        "vision_model.": "internvideo.uniformerv2.",
        "layernorm.": "classifier.layernorm.",
        "classifier.": "classifier.uniformerv2.",
    },
}
# Prefixes of what the fused model has on top of its two classifiers.
NEW = ("internvideo.exchanges.", "classifier.fusion")
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")
# Fields of the configuration that `from_encoders` sets itself.
OF_ENCODERS = {"internvideo_mae_config", "uniformerv2_config", "encoders", "encoders_fingerprint", "adapters_only"}


class FrozenEncoders(VideoPreTrainedModel):
    """A model with two frozen encoders, which its saved folder may leave out."""

    config: InternVideoConfig

    def post_init(self) -> None:
        """Finish the model, and freeze the encoders; see transformers' `PreTrainedModel.post_init`."""
        super().post_init()
        self.config.adapters_only = False  # says how a file was saved; a model holds all of its weights
        if self.config.freeze_encoders:
            self.freeze_backbone()

    def frozen_state(self) -> dict[str, torch.Tensor]:
        """Return what the paper leaves as it is: all of both encoders but video token and heads."""
        return {name: tensor for name, tensor in self.state_dict().items() if self.in_backbone(name)}

    @property
    def encoders_frozen(self) -> bool:
        """Whether training changes nothing of `frozen_state`, so that `encode_backbones` can be cached."""
        return not any(tensor.requires_grad for name, tensor in self.named_parameters() if self.in_backbone(name))

    @classmethod
    def from_pretrained(  # type: ignore[override]  # all but encoder_folders is passed on
        cls,
        pretrained_model_name_or_path: str | Path | None,
        *args: Any,
        encoder_folders: Mapping[str, str | Path] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a model; see transformers' `PreTrainedModel.from_pretrained`.

        A folder that was saved with `adapters_only` takes the encoders out of theirs.

        Args:
            pretrained_model_name_or_path: see there.
            args: see there.
            kwargs: see there.
            encoder_folders: where these are now, by "internvideo_mae" and "uniformerv2", if not where they were.

        Raises:
            ValueError: if a folder holds other weights than the ones that the adapters were trained with.
        """
        if pretrained_model_name_or_path is not None:
            config, others = kwargs.get("config"), {name: kwargs[name] for name in kwargs if name != "config"}
            if config is None:  # fields of it may be among the options
                config, others = InternVideoConfig.from_pretrained(
                    pretrained_model_name_or_path, return_unused_kwargs=True, **others
                )
            if getattr(config, "adapters_only", False):
                hub = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
                adapters = load_file(known(cached_file(pretrained_model_name_or_path, SAFE_WEIGHTS_NAME, **hub)))
                tensors = {**frozen_tensors(cls, config, encoder_folders), **adapters}
                kwargs, pretrained_model_name_or_path = others | {"config": config, "state_dict": tensors}, None
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if model.config.freeze_encoders and isinstance(model, FrozenEncoders):  # an exported one is none
            model.freeze_backbone()  # loading has put new parameters in the place of the frozen ones
        return loaded


class FusedFromEncoders(FrozenEncoders):
    """A fused classifier that is made of two trained ones."""

    @classmethod
    def from_encoders(cls, internvideo_mae: str | Path, uniformerv2: str | Path, **settings: Any) -> Self:
        """Make a model of two classifiers of the same classes, each in its own folder.

        At the start its branches are these models, to the last bit, and its score is the mean of theirs.

        Args:
            internvideo_mae: the folder of an `InternVideoMAEForVideoClassification`, or its name on the Hub.
            uniformerv2: that of a `UniFormerV2ForVideoClassification`.
            settings: fields of `InternVideoConfig`, such as `classifier_dropout=0.5`.

        Raises:
            ValueError: if a folder holds something else or lacks weights, the classes differ, or a setting is unknown.
        """
        own, common = ({entry.name for entry in fields(kind)} for kind in (InternVideoConfig, PreTrainedConfig))
        if unknown := settings.keys() - (own - common - OF_ENCODERS):
            raise ValueError(f"No settings of InternVideoConfig: {', '.join(sorted(unknown))}.")
        # References must hold wherever a program is started.
        folders = {
            name: str(Path(folder).resolve()) if Path(folder).is_dir() else str(folder)
            for name, folder in (("internvideo_mae", internvideo_mae), ("uniformerv2", uniformerv2))
        }
        models = {name: load_classifier(name, folder) for name, folder in folders.items()}
        mae, multimodal = (model.config for model in models.values())
        if mae.id2label != multimodal.id2label:
            raise ValueError(
                f"{folders['internvideo_mae']} knows {mae.num_labels} classes and {folders['uniformerv2']} "
                f"{multimodal.num_labels}, or they name them otherwise. Take two models of the same classes; "
                "`internvideo convert --head` takes those of one data set out of a head."
            )
        config = InternVideoConfig(
            internvideo_mae_config=mae.to_dict(),
            uniformerv2_config=multimodal.to_dict(),
            id2label=dict(enumerate(classes_of(mae))),
            label2id={name: number for number, name in enumerate(classes_of(mae))},
            encoders=folders,
            **settings,
        )
        model = cls(config).eval()
        # Strictly: only what neither classifier has stays as it was initialized.
        new = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(NEW)}
        model.load_state_dict(new | encoder_tensors(models))
        config.encoders_fingerprint = fingerprint(model.frozen_state())
        return model

    def save_pretrained(  # type: ignore[override]  # all but adapters_only is passed on
        self, save_directory: str | Path, *args: Any, adapters_only: bool = False, **kwargs: Any
    ) -> Any:
        """Save the model; see transformers' `PreTrainedModel.save_pretrained`.

        Args:
            save_directory: see there.
            args: see there.
            kwargs: see there.
            adapters_only: leave out what is frozen, and note where the two encoders are; loading takes it from there.

        Raises:
            ValueError: if the encoders are not known, or no longer the ones that the model was made of.
        """
        if adapters_only:
            if self.config.encoders is None:
                raise ValueError(
                    "This model was not made by `from_encoders`: the folders of its encoders are unknown. Leave "
                    "out adapters_only."
                )
            frozen = self.frozen_state()
            if fingerprint(frozen) != self.config.encoders_fingerprint:
                raise ValueError(
                    "The encoders have been trained or rounded since `from_encoders`, and their folders hold other "
                    "weights. Save the whole model: leave out adapters_only."
                )
            state = kwargs.pop("state_dict", None) or self.state_dict()
            kwargs["state_dict"] = {name: tensor for name, tensor in state.items() if name not in frozen}
            kwargs["max_shard_size"] = "1000GB"  # one file, which is what loading looks for
        self.config.adapters_only = adapters_only
        try:
            return super().save_pretrained(save_directory, *args, **kwargs)
        finally:
            self.config.adapters_only = False


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the hash of tensors, names and numbers.

    Args:
        tensors: by name.
    """
    return f"sha256:{tensors_sha256(tensors)}"


def load_classifier(name: str, folder: str | Path) -> PreTrainedModel:
    """Load one of the two classifiers, every weight of it.

    Args:
        name: its model type, of `ENCODERS`.
        folder: its folder, or name on the Hub.

    Raises:
        ValueError: if it is something else, or lacks weights.
    """
    if not Path(folder).is_dir() and str(folder).count("/") != 1:
        raise ValueError(
            f"{folder} is neither a directory nor a Hub repository id (owner/name). Give that of a classifier."
        )
    found = PreTrainedConfig.get_config_dict(folder)[0].get("model_type")
    if found != name:
        raise ValueError(f"{folder} holds {with_article(repr(found))} model, expected {name!r}, a classifier.")
    return load_strict(ENCODERS[name], folder)


def encoder_tensors(models: Mapping[str, PreTrainedModel]) -> dict[str, torch.Tensor]:
    """Return the tensors of the two classifiers in float32, under their names in the fused model.

    Args:
        models: by model type.
    """
    return {
        f"{prefix}{name.removeprefix(start)}": tensor
        for model_type, model in models.items()
        for name, tensor in model.float().state_dict().items()
        for start, prefix in PREFIXES[model_type].items()
        if name.startswith(start)
    }


def frozen_tensors(
    model_class: type[FrozenEncoders], config: InternVideoConfig, folders: Mapping[str, str | Path] | None
) -> dict[str, torch.Tensor]:
    """Load the frozen tensors from the folders of the two encoders.

    Args:
        model_class: knows which tensors are frozen.
        config: names the folders; new places are written into it.
        folders: new places by model type.

    Raises:
        ValueError: if a folder cannot be read, or holds other weights.
    """
    saved = known(config.encoders)
    places: dict[str, str | Path] = {**saved, **(folders or {})}
    if unknown := places.keys() - saved.keys():
        raise ValueError(f"encoder_folders names {sorted(unknown)}, expected {sorted(saved)}.")
    try:
        models = {name: load_classifier(name, places[name]) for name in ENCODERS}
    except OSError as error:
        raise ValueError(
            f"This model takes its encoders from {' and '.join(map(str, places.values()))}, and one cannot be "
            f"read ({error}). If it has moved, say where: from_pretrained(..., "
            "encoder_folders={'internvideo_mae': DIR, 'uniformerv2': DIR})."
        ) from error
    tensors = {name: tensor for name, tensor in encoder_tensors(models).items() if model_class.in_backbone(name)}
    if fingerprint(tensors) != config.encoders_fingerprint:
        raise ValueError(
            f"{' and '.join(map(str, places.values()))} hold other weights than those that this model was "
            "trained with. Give the same: from_pretrained(..., encoder_folders={'internvideo_mae': DIR, "
            "'uniformerv2': DIR})."
        )
    config.encoders = {name: str(place) for name, place in places.items()}
    return tensors
