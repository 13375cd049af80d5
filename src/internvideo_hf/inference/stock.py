"""Video encoders of transformers and of sentence-transformers behind the interface of this package's own.

What a clip's feature is, the first of these that there is:

1. of a sentence-transformers model, what `encode` gives;
2. of a classifier, what its head reads;
3. `get_video_features`;
4. `pooler_output`;
5. the mean of `last_hidden_state` over all tokens.

Which frames a clip has, `processing.stock` says.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForVideoClassification,
    AutoProcessor,
    AutoVideoProcessor,
)
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES
from transformers.utils.hub import cached_file

from internvideo_hf.auto import FAMILIES
from internvideo_hf.inference.precision import set_number_type
from internvideo_hf.inference.runner import load_model
from internvideo_hf.processing.stock import PIXELS, StockTextProcessor, StockVideoProcessor
from internvideo_hf.utils.devices import NUMBER_TYPES, default_device
from internvideo_hf.utils.fingerprints import files_sha256, json_sha256, tensors_sha256
from internvideo_hf.utils.names import check_name
from internvideo_hf.utils.pretrained import check_model_folder, load_pretrained

_MODULES = "modules.json"
# What makes a model another one: settings, weights and vocabularies; not what training left beside them.
_FILES = (
    *("*config*.json", "*.index.json", "*.safetensors", "*.bin", _MODULES),
    *("*token*.json", "vocab*", "merges.txt", "*.model"),
)


class Stock(NamedTuple):
    """A model of others with what goes along with it.

    Args:
        model: a `StockEncoder` or a `SentenceEncoder`, on its device.
        video_processor: frames and pixels.
        text_processor: of texts; None where it reads none.
        text_problem: why it cannot compare texts with videos; None if it can.
    """

    model: "StockEncoder | SentenceEncoder"
    video_processor: StockVideoProcessor
    text_processor: StockTextProcessor | None
    text_problem: str | None

    @property
    def fingerprint(self) -> str:
        """Hash of what makes its embeddings; equal hashes mean equal embeddings. See `identity_of`."""
        changes = self.video_processor.changes
        return f"sha256:{json_sha256([self.model.identity, changes])[:32]}" if changes else self.model.identity


def is_stock(name: str | Path) -> bool:
    """Return whether a model is of transformers or sentence-transformers, of no family of this package.

    Args:
        name: a folder, or a name on the Hub.

    Raises:
        ValueError: if a folder holds no model.
    """
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        if (folder / _MODULES).is_file():
            return True
        raise ValueError(f"{name} holds no model: it has neither config.json nor modules.json. Give a model's folder.")
    return load_pretrained(AutoConfig, name).model_type not in FAMILIES


def load_stock(name: str | Path, device: str | torch.device | None = None, dtype: str | None = None) -> Stock:
    """Load a video encoder of transformers or of sentence-transformers; no code of its own runs.

    Args:
        name: a folder, or a name on the Hub.
        device: where it runs; the accelerator if there is one.
        dtype: number type of its weights; as saved if None.

    Raises:
        ValueError: if it encodes no videos, lacks weights, or does not say which frames it takes.
        ImportError: if it is a sentence-transformers model, and that package is not installed.
    """
    modules = _modules_of(name)
    if modules is not None and (found := _load_sentence_encoder(name, modules, device, dtype)) is not None:
        return found
    config: PreTrainedConfig = load_pretrained(AutoConfig, name)
    _check_encodes_videos(name, config)
    auto_class = AutoModelForVideoClassification if _is_classifier(config) else AutoModel
    model = StockEncoder(load_model(auto_class, name, device, dtype), str(name))
    processor, text_processor = _load_processors(name, model)
    problem = None
    if text_processor is None:
        problem = f"{type(model.stock).__name__} reads no text here: {_lacks(model.stock)}."
    return Stock(model, StockVideoProcessor(processor, config, str(name)), text_processor, problem)


def load_stock_classifier(
    name: str | Path, device: str | torch.device | None = None, dtype: str | None = None
) -> tuple[PreTrainedModel, StockVideoProcessor]:
    """Load a video classifier of transformers as it is, and its frames and pixels by the name of its input.

    Args:
        name: a folder, or a name on the Hub.
        device: as of `load_stock`.
        dtype: as of `load_stock`.
    """
    model = load_model(AutoModelForVideoClassification, name, device, dtype)
    processor, _ = _load_processors(name, model)
    return model, StockVideoProcessor(processor, model.config, str(name), input_name=_input_of(model.forward, name))


class StockEncoder(nn.Module):
    """A video encoder of transformers, which gives the feature that its module names.

    Args:
        stock: the model, on its device.
        name: its folder, or its name on the Hub.
    """

    def __init__(self, stock: PreTrainedModel, name: str):
        super().__init__()
        self.stock, self.name = stock, name
        self._is_classifier = _is_classifier(stock.config)
        self._pooled: Any = stock if self._is_classifier else getattr(stock, "get_video_features", stock)
        self._input = _input_of(getattr(self._pooled, "forward", self._pooled), name)

    @property
    def config(self) -> Any:
        """The configuration."""
        return self.stock.config

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.stock.device

    @property
    def dtype(self) -> torch.dtype:
        """Number type of its weights."""
        return self.stock.dtype

    @property
    def number_type(self) -> str | None:
        """Number type to which it was cast; see `runner.cast_of`."""
        return getattr(self.stock, "number_type", None)

    @property
    def identity(self) -> str:
        """What identifies weights, settings and vocabulary; see `identity_of`."""
        return identity_of(self.name, self)

    def num_parameters(self) -> int:
        """Return the number of weights."""
        return self.stock.num_parameters()

    def cosine_scale(self) -> torch.Tensor | float:
        """Return the learned factor of the cosine; 1 where there is none."""
        scale = getattr(self.stock, "logit_scale", None)
        return 1.0 if scale is None else scale.exp()

    def get_video_features(self, pixel_values_videos: torch.Tensor) -> BaseModelOutputWithPooling:
        """Encode clips.

        Args:
            pixel_values_videos: `(clips, frames, channels, height, width)`.

        Returns:
            `pooler_output`, `(clips, dim)`.
        """
        if self._is_classifier:
            pooled: Any = self._head_input(pixel_values_videos)
        else:
            outputs = self._run(self._pooled, pixel_values_videos)
            pooled = outputs if isinstance(outputs, torch.Tensor) else getattr(outputs, "pooler_output", None)
            pooled = outputs.last_hidden_state.mean(dim=1) if pooled is None else pooled
        return BaseModelOutputWithPooling(pooler_output=_as_rows(pooled, len(pixel_values_videos)))

    def get_text_features(self, **inputs: torch.Tensor) -> BaseModelOutputWithPooling:
        """Encode texts: `pooler_output`, `(texts, dim)`.

        Args:
            inputs: of the tokenizer.
        """
        outputs = self.stock.get_text_features(**inputs)  # type: ignore[operator]
        pooled = outputs if isinstance(outputs, torch.Tensor) else outputs.pooler_output
        return BaseModelOutputWithPooling(pooler_output=_as_rows(pooled, len(pooled)))

    def tower(self, pixels: torch.Tensor, **options: Any) -> Any:
        """Return the outputs of the encoder of videos without a head: `last_hidden_state`, and `hidden_states`.

        Args:
            pixels: `(clips, frames, channels, height, width)`.
            options: such as `output_hidden_states`.
        """
        return self._run(self.stock.base_model if self._is_classifier else self._pooled, pixels, **options)

    def _head_input(self, clips: torch.Tensor) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        head: Any = self.stock.classifier
        hook = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        try:
            self._run(self.stock, clips)
        finally:
            hook.remove()
        return seen[0]

    def _run(self, run: Any, clips: torch.Tensor, **options: Any) -> Any:
        if "skip_predictor" in signature(getattr(run, "forward", run)).parameters:  # of V-JEPA 2, for pretraining
            options["skip_predictor"] = True
        return run(**{self._input: clips.to(self.device, self.dtype)}, **options)


class SentenceEncoder(nn.Module):
    """A sentence-transformers model of videos, which processes frames where it runs.

    Args:
        sentences: the `SentenceTransformer`, on its device.
        name: its folder, or its name on the Hub.
    """

    def __init__(self, sentences: Any, name: str):
        super().__init__()
        self.sentences, self.name = sentences, name
        self.number_type: str | None = None

    @property
    def config(self) -> Any:
        """The configuration of its transformer."""
        return self.sentences[0].config

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return cast(torch.device, self.sentences.device)

    @property
    def dtype(self) -> torch.dtype:
        """Number type of its weights."""
        return cast(torch.dtype, self.sentences.dtype)

    @property
    def identity(self) -> str:
        """What identifies weights, settings and vocabulary; see `identity_of`."""
        return identity_of(self.name, self)

    def num_parameters(self) -> int:
        """Return the number of weights."""
        return sum(tensor.numel() for tensor in self.sentences.parameters())

    def get_video_features(self, pixel_values_videos: torch.Tensor) -> BaseModelOutputWithPooling:
        """Encode clips.

        Args:
            pixel_values_videos: uint8 frames as they were decoded, `(clips, frames, 3, height, width)`.

        Returns:
            `pooler_output`, `(clips, dim)`.
        """
        options = {"processing_kwargs": _AS_SAMPLED, "batch_size": len(pixel_values_videos)}
        found = self.sentences.encode(self._videos(pixel_values_videos), **options, **_QUIET)
        return BaseModelOutputWithPooling(pooler_output=_as_rows(found, len(pixel_values_videos)))

    def get_text_features(self, texts: Sequence[str]) -> BaseModelOutputWithPooling:
        """Encode texts: `pooler_output`, `(texts, dim)`.

        Args:
            texts: one or more.
        """
        found = self.sentences.encode(list(texts), **_QUIET)
        return BaseModelOutputWithPooling(pooler_output=_as_rows(found, len(texts)))

    def tower(self, pixels: torch.Tensor, **options: Any) -> Any:
        """Return the tokens that the model pools; see `StockEncoder.tower`.

        Raises:
            ValueError: if its transformer pools them by itself.
        """
        features = self.sentences.preprocess(self._videos(pixels), processing_kwargs=_AS_SAMPLED)
        on_device = {
            name: value.to(self.device) if isinstance(value, torch.Tensor) else value
            for name, value in features.items()
        }
        outputs = self.sentences[0](on_device)
        if "token_embeddings" not in outputs or options.get("output_hidden_states"):
            raise ValueError(
                f"{self.name} is a sentence-transformers model that gives one vector of a clip, no tokens and no "
                "layers. Give the folder of its transformers model, or leave out --pooling, --layer, --kind attentive."
            )
        return BaseModelOutputWithPooling(last_hidden_state=outputs["token_embeddings"])

    @staticmethod
    def _videos(pixels: torch.Tensor) -> list[dict[str, np.ndarray]]:
        return [{"video": clip.permute(0, 2, 3, 1).cpu().numpy()} for clip in pixels]


_AS_SAMPLED = {"video": {"do_sample_frames": False}}
_QUIET = {"convert_to_tensor": True, "show_progress_bar": False}


def identity_of(name: str | Path, model: StockEncoder | SentenceEncoder) -> str:
    """Return what identifies a model with its processor and vocabulary: its commit on the Hub, or a hash of files.

    Args:
        name: the folder, or the name on the Hub.
        model: loaded from there.
    """
    if (folder := Path(name)).is_dir():
        file = folder / _MODULES
        parts = [module.get("path", "") for module in json.loads(file.read_bytes())] if file.is_file() else []
        patterns = [f"{part}/{pattern}" for part in dict.fromkeys(["", *parts]) for pattern in _FILES]
        return f"sha256:{files_sha256(folder, tuple(pattern.lstrip('/') for pattern in patterns))[:32]}"
    commit = getattr(model.config, "_commit_hash", None)
    return commit or f"sha256:{tensors_sha256(model.state_dict(), model.config.to_diff_dict())[:32]}"


# ---- loading --------------------------------------------------------------------------------------------------------


def _is_classifier(config: PreTrainedConfig) -> bool:
    # The classifiers of transformers hold the pooling that their encoders lack.
    return (config.architectures or [""])[0].endswith("ForVideoClassification")


def _check_encodes_videos(name: str | Path, config: PreTrainedConfig) -> None:
    """Refuse a model that encodes no videos, before its weights are loaded."""
    kind = config.model_type
    model_class = AutoModel._model_mapping.get(type(config), None)
    if kind not in MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES and not hasattr(model_class, "get_video_features"):
        if "video" not in (getattr(model_class, "input_modalities", None) or ()):
            raise ValueError(f"{name} is not an encoder of videos: its model_type is {kind}.")


def _input_of(run: Any, name: str | Path) -> str:
    """Return the argument that takes pixels; refuse a model that needs others, too."""
    parameters = signature(run).parameters
    pixels = next((known for known in PIXELS if known in parameters), None)
    needed = [
        other.name
        for other in parameters.values()
        if other.default is Parameter.empty and other.kind is Parameter.POSITIONAL_OR_KEYWORD and other.name != pixels
    ]
    if pixels is None or needed:
        lacks = f"needs {', '.join(needed)}" if needed else "takes no pixels"
        raise ValueError(
            f"{name} is not an encoder of clips: it {lacks}. Give a model such as VideoMAE, V-JEPA 2 or X-CLIP."
        )
    return pixels


def _lacks(model: PreTrainedModel) -> str:
    return "its folder has no tokenizer" if hasattr(model, "get_text_features") else "it is an encoder of videos alone"


def _load_processors(name: str | Path, model: Any) -> tuple[Any, StockTextProcessor | None]:
    """Return the processor of videos, and that of texts."""
    if hasattr(getattr(model, "stock", model), "get_text_features"):
        try:
            processor = load_pretrained(AutoProcessor, name)
        except (OSError, ValueError, TypeError, KeyError):  # no tokenizer: the videos are left
            processor = None
        if (tokenizer := getattr(processor, "tokenizer", None)) is not None:
            return processor, StockTextProcessor(processor, tokenizer, getattr(processor, "text_kwargs", None))
    for auto_class in (AutoVideoProcessor, AutoImageProcessor):
        with suppress(OSError, ValueError, TypeError, KeyError):
            return load_pretrained(auto_class, name), None
    raise ValueError(
        f"{name} has no processor of videos beside its weights (video_preprocessor_config.json, or "
        "preprocessor_config.json). Save it there by its save_pretrained."
    )


def _modules_of(name: str | Path) -> list[dict[str, Any]] | None:
    """Return the modules of a sentence-transformers model of videos; None where transformers loads all of it.

    Raises:
        ValueError: if they are of text alone, or not of that package.
    """
    missing = {
        f"_raise_exceptions_for_{what}": False for what in ("gated_repo", "missing_entries", "connection_errors")
    }
    file = cached_file(str(name), _MODULES, **missing)
    if file is None:
        return None
    modules = json.loads(Path(file).read_text(encoding="utf-8"))
    if not isinstance(modules, list) or not all(
        isinstance(module, Mapping) and "type" in module for module in modules
    ):
        raise ValueError(f"{file} does not list the modules of a sentence-transformers model. Save the model again.")
    for module in modules:
        if not str(module["type"]).startswith("sentence_transformers.") or ".." in str(module.get("path", "")):
            raise ValueError(f"{file} names {module['type']}, code that is not of sentence-transformers, and not run.")
        if (part := Path(name) / str(module.get("path", ""))).is_dir() and (part / "config.json").is_file():
            check_model_folder(part)
    return modules


def _load_sentence_encoder(
    name: str | Path, modules: Sequence[Mapping[str, Any]], device: str | torch.device | None, dtype: str | None
) -> Stock | None:
    """Load a sentence-transformers model; None if it is a transformers model of whose inputs it takes texts alone."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ImportError(
            f"{name} is a sentence-transformers model: pip install sentence-transformers, or give the folder of its "
            "transformers model."
        ) from error
    if dtype is not None:
        check_name(dtype, NUMBER_TYPES, "dtype")
    sentences = SentenceTransformer(str(name), device=str(default_device(device)), trust_remote_code=False).eval()
    modalities = list(sentences.modalities)
    if "video" not in modalities:
        if len(modules) == 1 and not modules[0].get("path"):
            return None
        raise ValueError(
            f"{name} is not an encoder of videos: it is a sentence-transformers model of "
            f"{' and '.join(map(str, modalities))}. Give one that encodes videos."
        )
    model = SentenceEncoder(sentences, str(name))
    if dtype is not None:
        set_number_type(cast(PreTrainedModel, model), dtype)
    transformer = sentences[0]
    options = (getattr(transformer, "processing_kwargs", None) or {}).get("video")
    videos = StockVideoProcessor(transformer.processor, model.config, str(name), options, leaves_frames=True)
    if "text" not in modalities:
        return Stock(model, videos, None, f"{name} encodes videos and reads no text.")
    return Stock(model, videos, StockTextProcessor(None, transformer.tokenizer), None)


def _as_rows(features: torch.Tensor, clips: int) -> torch.Tensor:
    """Return one vector of each clip; some heads keep an axis of the one token that they pooled."""
    return features.reshape(clips, -1, features.shape[-1]).mean(dim=1) if features.ndim > 2 else features
