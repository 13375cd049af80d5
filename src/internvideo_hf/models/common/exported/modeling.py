"""Exported models: what `from_pretrained` returns for a folder that `internvideo export` wrote.

Each stands in the place of a model class and has its interface as far as inference uses it. Another runtime computes
its functions; no weights are loaded into torch, and nothing of it can be trained.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
from torch import nn
from transformers import GenerationConfig
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput

from internvideo_hf.models.common.captions import CaptionGenerationMixin
from internvideo_hf.models.common.exported.graphs import Graph, open_graphs
from internvideo_hf.models.common.exported.manifest import Manifest, read_manifest
from internvideo_hf.models.common.narrowing import known
from internvideo_hf.models.common.outputs import VideoTextOutput
from internvideo_hf.utils.names import with_article
from internvideo_hf.utils.pretrained import load_pretrained

VIDEO, TEXT, CAPTION, HEAD = "video", "text", "caption", "head"
"""Names of functions: of clips, of texts, of the next token of captions, of features."""

_OTHER_TYPE = "Leave that out, or export the model in the number type that you need, by `internvideo export --dtype`."


@dataclass
class ExportedOutput(ModelOutput):
    """The result of a function, as far as it has them.

    Attributes:
        logits: `(batch, num_labels)`.
        uncertainty: of an open-set classifier, `(batch,)`.
        pooler_output: `(batch, width)`.
        last_hidden_state: `(batch, tokens, hidden_size)`.
        visual_tokens: of a model of captions, `(batch, num_visual_queries, hidden_size)`.
    """

    logits: torch.Tensor | None = None
    uncertainty: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    visual_tokens: torch.Tensor | None = None


@dataclass
class ExportedLocalization(ModelOutput):
    """Actions at every position of every level, as of a head in torch.

    Attributes:
        logits: of each level, `(batch, positions, num_labels)`.
        offsets: of each level, `(batch, positions, 2)`.
        masks: of each level, `(batch, positions)`, True on real positions.
    """

    logits: tuple[torch.Tensor, ...] | None = None
    offsets: tuple[torch.Tensor, ...] | None = None
    masks: tuple[torch.Tensor, ...] | None = None


class ExportedTower:
    """A tower of an exported model, for whoever reads its tokens.

    Args:
        config: of the tower.
        graph: computes it.
    """

    device = torch.device("cpu")

    def __init__(self, config: PreTrainedConfig, graph: Graph):
        self.config, self._graph = config, graph

    def __call__(self, **inputs: Any) -> ExportedOutput:
        """Compute the tokens; see `ExportedModel.compute`."""
        return ExportedOutput(last_hidden_state=_run(self._graph, inputs)["last_hidden_state"])

    def forward(self, pixel_values_videos: torch.Tensor, **options: Any) -> ExportedOutput:
        """Compute the tokens of clips; see `__call__`.

        Args:
            pixel_values_videos: `(batch, frames, channels, height, width)`.
            options: see `ExportedModel.compute`.
        """
        return self(pixel_values_videos=pixel_values_videos, **options)


class ExportedModel(PreTrainedModel):
    """A model that another runtime computes, on the CPU; inputs may be anywhere.

    Args:
        config: of the model.
        manifest: of its folder.
        graphs: its functions by name.
    """

    needs: ClassVar[Mapping[str, str]] = {VIDEO: "pooler_output"}  # function -> an output that it must have
    config_class = PreTrainedConfig
    main_input_name = "pixel_values_videos"
    input_modalities = ["video"]
    _supports_sdpa = True

    def __init__(self, config: PreTrainedConfig, manifest: Manifest, graphs: Mapping[str, Graph]):
        super().__init__(config)
        self.manifest, self.graphs = manifest, graphs
        self.train(False)

    @property
    def device(self) -> torch.device:
        """Where it runs: the CPU."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Number type of inputs and outputs: float32, whatever that of the weights."""
        return torch.float32

    @property
    def num_frames(self) -> int | None:
        """Frames of the clips that it takes; None for any number."""
        frames = next(iter(self.graphs[VIDEO].function.inputs.values())).shape[1]
        return frames if isinstance(frames, int) else None

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return the number of parameters of the model that was exported.

        Args:
            only_trainable: return 0.
            exclude_embeddings: not known here, and ignored.
        """
        return 0 if only_trainable else self.manifest.parameters

    def to(self, *args: Any, **kwargs: Any) -> "ExportedModel":  # type: ignore[override]  # wrapped there
        """Refuse another number type; a device changes nothing.

        Args:
            args: see `nn.Module.to`.
            kwargs: see `nn.Module.to`.

        Raises:
            ValueError: if a number type other than float32 is asked for.
        """
        for value in (*args, *kwargs.values()):
            if isinstance(value, torch.dtype) and value != self.dtype:
                self.refuse(f"cannot run in {value}".replace("torch.", ""))
        return self

    def refuse(self, what: str, advice: str = _OTHER_TYPE) -> NoReturn:
        """Refuse to change how it runs.

        Args:
            what: such as "cannot run in float16".
            advice: what to do.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.name_or_path} was exported in {self.manifest.dtype} and {what}. {advice}")

    def compute(self, name: str, inputs: Mapping[str, Any]) -> ExportedOutput:
        """Compute a function.

        Args:
            name: of the function.
            inputs: tensors by name; an option that asks for more than the function gives is refused.
        """
        fields = ExportedOutput.__dataclass_fields__
        outputs = _run(self.graphs[name], inputs)
        return ExportedOutput(**{name: tensor for name, tensor in outputs.items() if name in fields})

    def forward(self, *args: Any, **inputs: Any) -> Any:
        """Compute the answer for clips.

        Args:
            args: inputs in their order: `pixel_values_videos`, `(batch, frames, channels, height, width)`, and others
                that the model takes.
            inputs: the same by name.
        """
        return self.compute(VIDEO, dict(zip(self.graphs[VIDEO].function.inputs, args, strict=False)) | inputs)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: copy the folder.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"An exported model is not saved again. Copy its folder, {self.name_or_path}.")


class ExportedEncoder(ExportedModel):
    """A video encoder; also that of an exported classifier."""

    def forward(self, pixel_values_videos: torch.Tensor, **options: Any) -> ExportedOutput:
        """Encode clips.

        Args:
            pixel_values_videos: `(batch, frames, channels, height, width)`.
            options: see `compute`.
        """
        return self.compute(VIDEO, {"pixel_values_videos": pixel_values_videos, **options})


class ExportedClassifier(ExportedModel):
    """A classifier, of one input or of several."""

    needs = {VIDEO: "logits"}


class ExportedDualEncoder(ExportedModel):
    """A model of video and text; see `DualEncoder`."""

    needs = {VIDEO: "pooler_output", TEXT: "pooler_output"}
    input_modalities = ["video", "text"]

    @property
    def vision_model(self) -> ExportedTower:
        """The video tower."""
        return ExportedTower(self.config.vision_config, self.graphs[VIDEO])

    @property
    def text_model(self) -> ExportedTower:
        """The text tower."""
        return ExportedTower(self.config.text_config, self.graphs[TEXT])

    @property
    def logit_scale(self) -> torch.Tensor:
        """Logarithm of the factor on the cosines."""
        return torch.tensor(self.cosine_scale()).log()

    def cosine_scale(self) -> float:
        """Return the factor on the cosines."""
        return self.manifest.cosine_scale

    def get_video_features(self, pixel_values_videos: torch.Tensor, **options: Any) -> ExportedOutput:
        """Embed clips; see `DualEncoder.get_video_features`."""
        return self.compute(VIDEO, {"pixel_values_videos": pixel_values_videos, **options})

    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **options: Any
    ) -> ExportedOutput:
        """Embed texts; see `DualEncoder.get_text_features`.

        Args:
            input_ids: `(batch, tokens)`.
            attention_mask: not needed: attention is causal, and padding comes last.
            options: see `compute`.
        """
        return self.compute(TEXT, {"input_ids": input_ids, **options})

    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **options: Any,
    ) -> VideoTextOutput:
        """Compare every video with every text; see `DualEncoder.forward`."""
        video, text = (
            nn.functional.normalize(outputs["pooler_output"], dim=-1)
            for outputs in (
                self.get_video_features(pixel_values_videos, **options),
                self.get_text_features(input_ids, attention_mask),
            )
        )
        logits = self.cosine_scale() * video @ text.T
        return VideoTextOutput(logits_per_video=logits, logits_per_text=logits.T, video_embeds=video, text_embeds=text)


class ExportedCaptioner(ExportedDualEncoder, CaptionGenerationMixin):
    """A model of video and text that also writes captions, by all tokens so far for each token."""

    needs = {**ExportedDualEncoder.needs, CAPTION: "logits"}
    main_input_name = "input_ids"

    def get_visual_tokens(self, pixel_values_videos: torch.Tensor, **options: Any) -> torch.Tensor:
        """Encode clips for the caption decoder.

        Args:
            pixel_values_videos: `(batch, frames, channels, height, width)`.
            options: see `compute`.
        """
        return known(self.get_video_features(pixel_values_videos, **options).visual_tokens)

    def forward(  # type: ignore[override]  # that of a model of captions
        self,
        pixel_values_videos: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        visual_tokens: torch.Tensor | None = None,
        logits_to_keep: int = 0,
        **options: Any,
    ) -> ExportedOutput:
        """Predict the token that follows.

        Args:
            pixel_values_videos: `(batch, frames, channels, height, width)`; not needed with `visual_tokens`.
            input_ids: the tokens so far, without padding, `(batch, tokens)`.
            attention_mask: not needed: attention is causal.
            visual_tokens: of `get_visual_tokens`.
            logits_to_keep: as 1, which is what there is.
            options: see `compute`.

        Returns:
            `logits`, `(batch, 1, vocab_size)`.
        """
        if visual_tokens is None:
            visual_tokens = self.get_visual_tokens(known(pixel_values_videos))
        outputs = self.compute(CAPTION, {"visual_tokens": visual_tokens, "input_ids": input_ids, **options})
        return ExportedOutput(logits=known(outputs.logits)[:, None])

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Write captions; see `CaptionGenerationMixin.generate`.

        Args:
            args: see there.
            kwargs: see there; there is no cache.
        """
        return super().generate(*args, **kwargs | {"use_cache": False})


class ExportedLocalizer(ExportedModel):
    """A head that localizes actions in features."""

    needs = {HEAD: "logits"}
    main_input_name = "features"
    input_modalities = ["time"]

    def forward(self, features: torch.Tensor, attention_mask: torch.Tensor | None = None) -> ExportedLocalization:
        """Localize actions.

        Args:
            features: of each video, `(batch, length, feature_size)`.
            attention_mask: `(batch, length)`, True or 1 on real positions, which come first; None if all are.
        """
        graph, length = self.graphs[HEAD], self.config.padded_length(features.shape[1])
        rest = length - features.shape[1]
        mask = torch.ones(features.shape[:2]) if attention_mask is None else attention_mask
        inputs = {
            "features": nn.functional.pad(features, (0, 0, 0, rest)),
            "attention_mask": nn.functional.pad(mask.long(), (0, rest)),
        }
        outputs = graph(inputs)
        positions = [length // stride for stride in self.config.strides]
        masks = tuple(inputs["attention_mask"].bool()[:, ::stride] for stride in self.config.strides)
        return ExportedLocalization(
            logits=torch.split(outputs["logits"], positions, dim=1),
            offsets=torch.split(outputs["offsets"], positions, dim=1),
            masks=masks,
        )


KINDS: dict[str, type[ExportedModel]] = {
    "encoder": ExportedEncoder,
    "classifier": ExportedClassifier,
    "dual_encoder": ExportedDualEncoder,
    "captioner": ExportedCaptioner,
    "localizer": ExportedLocalizer,
}
"""`export_kind` of a model class -> what stands in its place."""


def load_exported(
    model_class: Any,
    folder: str | Path,
    config: PreTrainedConfig | None = None,
    output_loading_info: bool = False,
    **options: Any,
) -> ExportedModel | tuple[ExportedModel, dict[str, list[str]]]:
    """Load an exported folder in the place of a model class.

    Args:
        model_class: a model class of this package.
        folder: that `internvideo export` wrote.
        config: of the model; read from the folder if None.
        output_loading_info: also return which weights are missing, namely none.
        options: others of `from_pretrained`.

    Raises:
        ValueError: if the folder is damaged, of another version, or of a model that cannot take the class's place; if
            an option asks for another number type or another configuration.
    """
    manifest = read_manifest(folder)
    kind = KINDS.get(model_class.export_kind or "")
    lacks = kind is None or any(
        name not in manifest.functions or output not in manifest.functions[name].outputs
        for name, output in kind.needs.items()
    )
    if kind is None or lacks:
        raise ValueError(
            f"{folder} holds {with_article(manifest.architecture)}, exported, expected "
            f"{with_article(model_class.__name__)}. Give the folder that it was exported from, or another model."
        )
    if config is None:
        config = model_class.config_class.from_pretrained(folder)
    # Under the name of the class that it stands for: pipelines and messages tell models by it.
    graphs = open_graphs(folder, manifest, names=kind.needs)
    model: ExportedModel = type(model_class.__name__, (kind,), {})(config, manifest, graphs)
    model.config._name_or_path = model.name_or_path = str(folder)
    _check_options(model, options)
    if isinstance(model, ExportedCaptioner):
        model.generation_config = load_pretrained(GenerationConfig, folder)
    return (model, {"missing_keys": [], "mismatched_keys": []}) if output_loading_info else model


def _check_options(model: ExportedModel, options: Mapping[str, Any]) -> None:
    """Refuse options of `from_pretrained` that would change the model."""
    for name, value in options.items():
        if name in ("dtype", "torch_dtype"):
            number_type = str(value).removeprefix("torch.")
            if number_type not in ("None", "auto", "float32", model.manifest.dtype):
                model.refuse(f"cannot run in {number_type}")
        elif hasattr(model.config, name) and getattr(model.config, name) != value:
            model.refuse(f"has {name}={getattr(model.config, name)!r}, not {value!r}", "Leave that out.")


def _run(graph: Graph, inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    unknown = {name: value for name, value in inputs.items() if name not in (*graph.function.inputs, "return_dict")}
    if asked := [name for name, value in unknown.items() if value is not None and value is not False]:
        takes, gives = ", ".join(graph.function.inputs), ", ".join(graph.function.outputs)
        raise ValueError(
            f"An exported model has no {asked[0]}: its function {graph.name!r} takes {takes} and gives {gives}. Ask "
            "the folder that it was exported from."
        )
    return graph(inputs)
