"""From a released file to a folder that `from_pretrained` loads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_NAME

from internvideo_hf import auto
from internvideo_hf.checkpoints.cards import pipeline_snippet, write_card
from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.families import converters
from internvideo_hf.checkpoints.released import published, rows_of_file
from internvideo_hf.checkpoints.released_file import load_state_dict
from internvideo_hf.checkpoints.saving import check_replaceable, save_safetensors
from internvideo_hf.checkpoints.table import check_complete, convert_state_dict
from internvideo_hf.models.common.overrides import check_overrides, configuration_errors
from internvideo_hf.processing.presets import build_processor, check_processor_name
from internvideo_hf.utils.files import atomic_directory
from internvideo_hf.utils.names import lookup

FAMILIES = converters()

# What else than our own classes a model can be written for -> its family, and the function that does it.
TARGETS = {
    target: (family, export) for family, converter in FAMILIES.items() for target, export in converter.exports.items()
}

# Families that this converter can name but not convert, by a tensor that each of their files holds.
UNSUPPORTED = {
    "visual.proj": "an image CLIP model, from which `internvideo_hf.initialize_from_clip` starts InternVideo-MM",
}

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class ConversionReport:
    """What became of a released file.

    Attributes:
        family: name of the recognised model family.
        output_dir: the written folder.
        num_tensors, num_parameters: of the converted model.
        left_out: names in the released file that have no place in the model, with the reason for each.
        head: the data set whose classes the classification head has; None without a head, or an unknown one.
        num_labels: classes of the head; None without a head.
    """

    family: str
    output_dir: Path
    num_tensors: int
    num_parameters: int
    left_out: dict[str, str] = field(default_factory=dict)
    head: str | None = None
    num_labels: int | None = None


def convert_checkpoint(
    checkpoint: str | Path,
    output_dir: str | Path,
    *,
    config_overrides: Mapping[str, Any] | None = None,
    head: str | None = None,
    to: str | None = None,
    processor: str | None = None,
    dtype: str = "float32",
    trust_pickle: bool = False,
    overwrite: bool = False,
) -> ConversionReport:
    """Convert a released file into a folder with model, processor and model card.

    The family and all sizes are recognised from the tensors. Every released tensor is used or left out with a
    reason, and every tensor of the model is filled, or nothing is written.

    Args:
        checkpoint: the released file; see `load_state_dict` for the layouts.
        output_dir: the folder to write, atomically.
        config_overrides: configuration values that no shape tells, nested as in `config.json`.
        head: the data set whose classes a classification head has, a name in `internvideo_hf.recipes.labels`. Where
            the file tells it, it need not be said; k400, k600 and k700 can be taken out of a Kinetics-710 head.
        to: write the model for other classes than ours, a name in `TARGETS`.
        processor: whose pixels the saved processor makes, where the original has several: "training" (the default) or
            "demo" for ViCLIP.
        dtype: number type to store: float32, float16 or bfloat16.
        trust_pickle: run the code that the file may hold.
        overwrite: replace `output_dir` if it holds a model already; it stays as it is if the conversion fails.

    Raises:
        CheckpointError: if the file cannot be read safely, is of no known family, or does not fit exactly.
        ValueError: if an override or `dtype` is unknown, or the overrides make no model.
        FileExistsError: if `output_dir` is in the way.
    """
    checkpoint, output_dir = Path(checkpoint), Path(output_dir)
    _check_output(output_dir, checkpoint, overwrite)
    if to is not None:
        lookup(TARGETS, to, "to")
    lookup(DTYPES, dtype, "dtype")

    state_dict = load_state_dict(checkpoint, trust_pickle=trust_pickle)
    family = _recognize(state_dict, checkpoint)
    converter = FAMILIES[family]
    if to is not None and TARGETS[to][0] != family:
        raise ValueError(f"A model of the family {family} cannot be written as {to}.")
    check_processor_name(family, processor)
    state_dict = converter.normalize(state_dict)
    check_overrides(config_overrides or {}, auto.FAMILIES[family].config)
    rows = rows_of_file(checkpoint.name, family)
    labels = None
    if not head and converter.known_head is not None:
        head = converter.known_head(state_dict, rows)
    if head:
        if converter.choose_head is None:
            raise CheckpointError(f"A model of the family {family} has no classification head: leave out --head.")
        state_dict, labels = converter.choose_head(state_dict, head)
        # Of the files that share a name, those with these classes; a head picked from a larger one leaves them all.
        rows = [row for row in rows if row["labels"] == head] or rows
    overrides = dict(config_overrides or {})
    if len(rows) == 1:
        overrides = {**rows[0]["config"], **overrides}
    table = converter.table_for(state_dict)
    converted, left_out = convert_state_dict(state_dict, table)
    model = _empty_model(family, state_dict, overrides)
    if converter.fit is not None:
        converted = converter.fit(converted, model.config)
    check_complete(model, converted, table)
    model.load_state_dict(converted, assign=True)
    if labels is not None:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: index for index, label in enumerate(labels)}
    saved_processor = build_processor(model.config, processor)
    if to is not None:
        model, converted, saved_processor = TARGETS[to][1](model.config, converted)

    config = model.config
    config.architectures = [type(model).__name__]
    for part in (config, *(getattr(config, name) for name in config.sub_configs_defaults)):
        part.dtype = dtype
    report = ConversionReport(
        family,
        output_dir,
        len(converted),
        sum(tensor.numel() for tensor in converted.values()),
        left_out,
        head,
        config.num_labels if _pipeline_tag(model) == "video-classification" else None,
    )
    with atomic_directory(output_dir) as folder:
        config.save_pretrained(folder)
        saved_processor.save_pretrained(folder)
        del saved_processor  # a vocabulary is some megabytes, and what follows is the peak
        _write_card(folder, model, report, checkpoint.name, rows)
        # Last, since reading the mapped file makes it count as memory in use, all of it in the end.
        save_safetensors(converted, folder / SAFE_WEIGHTS_NAME, DTYPES[dtype])
    return report


def _check_output(output_dir: Path, checkpoint: Path, overwrite: bool) -> None:
    check_replaceable(output_dir, overwrite)
    if checkpoint.resolve().is_relative_to(output_dir.resolve()):
        raise FileExistsError(
            f"{output_dir} holds {checkpoint.name} itself, which --overwrite would delete. Choose another folder."
        )


def _empty_model(family: str, state_dict: Mapping[str, torch.Tensor], overrides: Mapping[str, Any]) -> PreTrainedModel:
    """The model that the file describes, on the meta device, where it takes no memory."""
    with configuration_errors():
        config = FAMILIES[family].config_from(state_dict, overrides)
        with torch.device("meta"):
            return auto.FAMILIES[family].models[FAMILIES[family].model_class(state_dict)](config)


def _recognize(state_dict: Mapping[str, torch.Tensor], checkpoint: Path) -> str:
    for family, converter in FAMILIES.items():
        if converter.recognizes(state_dict):
            return family
    for name, what in UNSUPPORTED.items():
        if name in state_dict:
            raise CheckpointError(f"{checkpoint} looks like {what}.")
    raise CheckpointError(
        f"{checkpoint} is of no family that this converter knows ({', '.join(FAMILIES)}). "
        f"Its first names are {', '.join(list(state_dict)[:4])}."
    )


def _write_card(
    folder: Path, model: PreTrainedModel, report: ConversionReport, source: str, rows: list[dict[str, Any]]
) -> None:
    addresses = [f"{row['name']}: {row['address'] or 'no address is known'}" for row in rows]
    if len(addresses) > 1:
        addresses = ["one of the released files of this name", *addresses]
    licenses = dict.fromkeys(row["licence"] for row in rows)
    facts = [
        f"Source: {'; '.join(addresses) or 'a file that is not in the Model Zoo'}",
        f"License of the weights: {'; '.join(licenses) or 'ask whoever made the file'}",
    ]
    if report.num_labels is not None:
        facts.append(f"Classes: {report.head or 'numbered; neither the file nor its name identifies the data set'}")
    if len(rows) == 1 and rows[0]["labels"] == report.head and (test := published(rows[0])):
        facts.append(f"Published test: {test}")
    names_of: dict[str, list[str]] = {}
    for name, reason in report.left_out.items():
        names_of.setdefault(reason, []).append(f"`{name}`")
    left_out = [f"{reason}: {', '.join(names)}" for reason, names in names_of.items()]
    tag = _pipeline_tag(model)
    stock = not type(model).__module__.startswith("internvideo_hf.")
    write_card(
        folder,
        rows[0]["name"] if len(rows) == 1 else source,
        family=report.family,
        provenance=f"Converted from `{source}` by internvideo_hf: {report.num_tensors} tensors, "
        f"{report.num_parameters:,} parameters.",
        pipeline_tag=tag,
        facts=facts,
        sections=({"Use": pipeline_snippet(tag, stock)} if tag else {}) | {"Left out": left_out or "Nothing."},
    )


def _pipeline_tag(model: PreTrainedModel) -> str | None:
    if type(model).__name__.endswith("ForVideoClassification"):
        return "video-classification"
    return "zero-shot-video-classification" if getattr(model.config, "projection_dim", None) else None
