"""Convert a released file to a folder that `from_pretrained` loads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_NAME

from internvideo_hf import auto
from internvideo_hf.checkpoints.cards import pipeline_snippet, pipeline_tag, write_card
from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.families import converters
from internvideo_hf.checkpoints.heads import identify_classes, select_classes
from internvideo_hf.checkpoints.matching import GENERIC_NAMES, FileFacts, identify, processor_fact
from internvideo_hf.checkpoints.released import published, released_rows, rows_of_file
from internvideo_hf.checkpoints.released_file import load_state_dict
from internvideo_hf.checkpoints.saving import check_replaceable, save_safetensors
from internvideo_hf.checkpoints.shapes import shape_of
from internvideo_hf.checkpoints.table import check_complete, convert_state_dict
from internvideo_hf.data.answers import answers_of, name_classes, numbered_answer, read_answers
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.models.common.narrowing import known
from internvideo_hf.models.common.overrides import check_overrides, configuration_errors
from internvideo_hf.processing.presets import build_processor, check_processor_name
from internvideo_hf.utils.devices import DTYPES
from internvideo_hf.utils.files import atomic_directory
from internvideo_hf.utils.names import lookup

FAMILIES = converters()

# Export target -> its family, and the function that exports.
TARGETS = {
    target: (family, export) for family, converter in FAMILIES.items() for target, export in converter.exports.items()
}

PARTS = ("full", "towers")

# A tensor that identifies files of other models -> what they are.
UNSUPPORTED = {
    "visual.proj": "an image CLIP model, from which `internvideo_hf.initialize_from_clip` starts InternVideo-MM",
}


@dataclass(frozen=True)
class ConversionReport:
    """The result of a conversion.

    Args:
        family: `model_type` of the recognized family.
        output_dir: the written folder.
        num_tensors: of the converted model.
        num_parameters: of the converted model.
        left_out: name in the released file -> why the model does not use it.
        head: data set of the classification head; None without a head, or if it is unknown.
        num_labels: classes of the head; None without a head.
        num_answers: classes of the head that answers questions, the surplus one included; None without such a head.
    """

    family: str
    output_dir: Path
    num_tensors: int
    num_parameters: int
    left_out: dict[str, str] = field(default_factory=dict)
    head: str | None = None
    num_labels: int | None = None
    num_answers: int | None = None


def convert_checkpoint(
    checkpoint: str | Path,
    output_dir: str | Path,
    *,
    config_overrides: Mapping[str, Any] | None = None,
    head: str | None = None,
    data_set: str | None = None,
    released_as: str | None = None,
    task: str | None = None,
    to: str | None = None,
    part: str = "full",
    answers: str | Path | None = None,
    processor: str | None = None,
    dtype: str = "float32",
    trust_pickle: bool = False,
    overwrite: bool = False,
) -> ConversionReport:
    """Convert a released file to a folder with model, processor and model card.

    The tensors determine the family and all sizes. Every released tensor is used or left out with a reason, and every
    tensor of the model is filled; otherwise nothing is written.

    Args:
        checkpoint: the released file; see `load_state_dict` for the layouts.
        output_dir: the folder to write, atomically.
        config_overrides: configuration values that no shape determines, nested as in `config.json`.
        head: the data set whose classes a classification head has, a name in `internvideo_hf.recipes.labels`; None if
            the file identifies it. k400, k600 and k700 can be selected from a Kinetics-710 head.
        data_set: the data set that a file without a head was fine-tuned on, such as "msrvtt", whose frames and pixels
            the saved processor makes; needed if several released files share its name.
        released_as: name of the row of `internvideo released` whose file it is, whatever its own name.
        task: what the model is for, if the names of the tensors could be another's: "action_detection" for a VideoMAE
            file with a head that scores boxes of people, in place of a classifier of first tokens. AVA's detectors, of
            80 actions, and those with ACAR's head need no task.
        to: write the model for other classes than ours, a name in `TARGETS`.
        part: "towers" leaves a caption decoder and an answer head out, for a smaller dual encoder; "full" keeps them.
        answers: the list of answers that a question-answering file was trained on, see
            `internvideo_hf.data.answers.read_answers`. A head with one class more, as the released ones, has
            `internvideo_hf.data.answers.BACKGROUND` for its last. By default classes are "answer 0", "answer 1", ...
        processor: whose pixels the saved processor makes, if the original has several: "training" (the default),
            "demo" or "training_antialias" for ViCLIP.
        dtype: number type to store: float32, float16 or bfloat16.
        trust_pickle: run the code that the file may hold.
        overwrite: replace `output_dir` if it holds a model; it stays as it is if the conversion fails.

    Raises:
        CheckpointError: if the file cannot be read safely, is of no known family, or does not fit exactly.
        ManifestError: if the list of answers cannot be read.
        ValueError: if an override or `dtype` is unknown, the overrides are no valid configuration, or the list of
            answers is of another length than the head.
        FileExistsError: if `output_dir` is in the way.
    """
    checkpoint, output_dir = Path(checkpoint), Path(output_dir)
    _check_output(output_dir, checkpoint, overwrite)
    exported_family, export = (None, None) if to is None else lookup(TARGETS, to, "to")
    lookup(DTYPES, dtype, "dtype")
    lookup(dict.fromkeys(PARTS), part, "part")
    names = None if answers is None else read_answers(answers)
    state_dict = load_state_dict(checkpoint, trust_pickle=trust_pickle)
    family = _recognize(state_dict, checkpoint)
    if exported_family not in (None, family):
        raise ValueError(f"A model of the family {family} cannot be written as {to}.")
    check_processor_name(family, processor)
    check_overrides(config_overrides or {}, auto.FAMILIES[family].config)

    state_dict, rows = _normalize(family, state_dict, task), _rows(checkpoint, family, released_as)
    state_dict, set_aside = _select_part(family, state_dict, part)
    settings = dict(config_overrides or {})
    classes = _count_classes(family, state_dict)
    state_dict, head, labels = _select_head(family, state_dict, head, rows)
    answer_labels = _name_answers(family, state_dict, names)
    width = partial(_video_width, family, state_dict, settings)
    file = FileFacts(checkpoint.name, family, classes, head, data_set, settings, width)
    possible, test = identify(file, rows)
    if (own_test := FAMILIES[family].test) is not None:
        test = own_test(state_dict) or test
    overrides = (possible[0]["config"] if len(possible) == 1 else {}) | settings
    model, converted, left_out = _build_model(family, state_dict, overrides, labels or answer_labels)
    left_out |= set_aside
    saved_processor, facts = None, ["Input: features of a video encoder; no processor belongs to it"]
    if auto.FAMILIES[family].video_processor_name is not None:
        saved_processor = build_processor(model.config, processor, None if test is None else test.settings)
        facts = [processor_fact(saved_processor, test)]
    if export is not None:
        model, converted, saved_processor = export(model.config, converted)
        facts = ["Processor: of those classes; its frames and pixels differ from the released ones"]

    num_parameters = sum(tensor.numel() for tensor in converted.values())
    tag = pipeline_tag(model.config, type(model).__name__)
    num_labels = model.config.num_labels if tag in ("video-classification", "video-action-detection") else None
    num_answers = None if answer_labels is None else len(answer_labels)
    report = ConversionReport(
        family, output_dir, len(converted), num_parameters, left_out, head, num_labels, num_answers
    )
    with atomic_directory(output_dir) as folder:
        _save_config(model, dtype, folder)
        if saved_processor is not None:
            saved_processor.save_pretrained(folder)
        del saved_processor  # a vocabulary is some megabytes, and what follows is the peak
        told = released_as is not None or data_set is not None
        is_certain = len(possible) == 1 and (told or checkpoint.name not in GENERIC_NAMES)
        _write_card(folder, model, report, checkpoint.name, possible, is_certain, facts)
        # Last, since reading the mapped file makes it count as memory in use, all of it in the end.
        save_safetensors(converted, folder / SAFE_WEIGHTS_NAME, DTYPES[dtype])
    return report


def _normalize(family: str, state_dict: Mapping[str, torch.Tensor], task: str | None) -> dict[str, torch.Tensor]:
    """Return the tensors in the family's one layout, as those of a task's model if it is given."""
    tensors = FAMILIES[family].normalize(state_dict)
    if task is None:
        return tensors
    if not FAMILIES[family].as_task:
        raise CheckpointError(f"A file of the family {family} says itself what it is for; leave out --task (task=).")
    return lookup(FAMILIES[family].as_task, task, "task")(tensors)


def _select_part(
    family: str, state_dict: dict[str, torch.Tensor], part: str
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    if part == "full":
        return state_dict, {}
    if FAMILIES[family].towers is None:
        raise CheckpointError(f"A file of the family {family} has no parts to choose from; leave out --part (part=).")
    return known(FAMILIES[family].towers)(state_dict)


def _rows(checkpoint: Path, family: str, released_as: str | None) -> list[dict[str, Any]]:
    """Return the released rows that a file may be: of its name, or the one that the user names."""
    if released_as is None:
        return rows_of_file(checkpoint.name, family)
    row = lookup({row["name"]: row for row in released_rows()}, released_as, "released_as")
    if row["family"] != family:
        raise CheckpointError(f"{checkpoint} holds a model of {family}, and {released_as} is of {row['family']}.")
    return [row]


def _save_config(model: PreTrainedModel, dtype: str, folder: Path) -> None:
    config = model.config
    config.architectures = [type(model).__name__]
    parts = [getattr(config, name) for name in config.sub_configs_defaults]
    for part in (config, *filter(None, parts)):
        part.dtype = dtype
    config.save_pretrained(folder)
    if model.can_generate():
        known(model.generation_config).save_pretrained(folder)  # without it, `generate` stops after 20 tokens


def _check_output(output_dir: Path, checkpoint: Path, overwrite: bool) -> None:
    check_replaceable(output_dir, overwrite)
    if checkpoint.resolve().is_relative_to(output_dir.resolve()):
        raise FileExistsError(
            f"{output_dir} holds {checkpoint.name} itself, which --overwrite would delete. Choose another folder."
        )


def _count_classes(family: str, state_dict: Mapping[str, torch.Tensor]) -> int | None:
    head_layer = FAMILIES[family].head_layer
    layer = None if head_layer is None else head_layer(state_dict)
    return None if layer is None else shape_of(state_dict, f"{layer}.weight", 2)[0]


def _video_width(family: str, state_dict: Mapping[str, torch.Tensor], settings: Mapping[str, Any]) -> int:
    with configuration_errors():
        config = FAMILIES[family].config_from(state_dict, settings)
    width: int = getattr(config, "vision_config", config).hidden_size
    return width


def _select_head(
    family: str, state_dict: dict[str, torch.Tensor], head: str | None, rows: list[dict[str, Any]]
) -> tuple[dict[str, torch.Tensor], str | None, list[str] | None]:
    """Return the tensors with the head of a data set, the name of the data set, and its classes."""
    head_layer = FAMILIES[family].head_layer
    layer = None if head_layer is None else head_layer(state_dict)
    if layer is None:
        if head:
            raise CheckpointError(f"This {family} file has no classification head; leave out --head.")
        return state_dict, None, None
    of_boxes = FAMILIES[family].model_class(state_dict) is auto.auto_class("AutoModelForVideoActionDetection")
    head = head or identify_classes(state_dict, layer, rows, of_boxes=of_boxes)
    if not head:
        return state_dict, None, None
    state_dict, labels = select_classes(state_dict, layer, head)
    return state_dict, head, labels


def _name_answers(
    family: str, state_dict: Mapping[str, torch.Tensor], answers: Sequence[str] | None
) -> list[str] | None:
    """Return the names of the classes of an answer head; None for a file without one."""
    answer_layer = FAMILIES[family].answer_layer
    layer = None if answer_layer is None else answer_layer(state_dict)
    if layer is None:
        if answers is not None:
            raise CheckpointError(
                "What is converted has no head that answers questions; leave out --answers, or --part towers."
            )
        return None
    classes = shape_of(state_dict, f"{layer}.weight", 2)[0]
    if answers is None:
        return [numbered_answer(number) for number in range(classes)]
    return name_classes(answers, classes)


def _build_model(
    family: str, state_dict: Mapping[str, torch.Tensor], overrides: Mapping[str, Any], labels: list[str] | None
) -> tuple[PreTrainedModel, dict[str, torch.Tensor], dict[str, str]]:
    """Return the model that the file describes, with its tensors, and the names left out, each with the reason."""
    converter = FAMILIES[family]
    table = converter.table_for(state_dict)
    converted, left_out = convert_state_dict(state_dict, table)
    with configuration_errors():
        config = converter.config_from(state_dict, overrides)
        with torch.device("meta"):  # takes no memory
            model = auto.FAMILIES[family].models[converter.model_class(state_dict)](config)
    if converter.fit is not None:
        converted = converter.fit(converted, config)
    check_complete(model, converted, table)
    model.load_state_dict(converted, assign=True)
    if labels is not None:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: index for index, label in enumerate(labels)}
    return model, converted, left_out


def _recognize(state_dict: Mapping[str, torch.Tensor], checkpoint: Path) -> str:
    for family, converter in FAMILIES.items():
        if converter.recognizes(state_dict):
            return family
    for name, what in UNSUPPORTED.items():
        if name in state_dict:
            raise CheckpointError(f"{checkpoint} looks like {what}.")
    raise CheckpointError(
        f"{checkpoint} holds no checkpoint of the families {', '.join(FAMILIES)}. "
        f"Its first tensors are {', '.join(list(state_dict)[:4])}."
    )


def _write_card(
    folder: Path,
    model: PreTrainedModel,
    report: ConversionReport,
    source: str,
    rows: Sequence[Mapping[str, Any]],
    is_certain: bool,
    processor_facts: Sequence[str],
) -> None:
    addresses = [f"{row['name']}: {row['address'] or 'no address is known'}" for row in rows]
    if rows and not is_certain:
        own = ", or your own" if source in GENERIC_NAMES else ""
        addresses = [f"one of the released files of this name{own}", *addresses]
    licenses = dict.fromkeys(row["licence"] for row in rows)
    facts = [
        f"Source: {'; '.join(addresses) or 'a file that is not in the Model Zoo'}",
        f"License of the weights: {'; '.join(licenses) or 'ask whoever made the file'}",
        *processor_facts,
    ]
    if is_certain and rows[0]["note"]:
        facts.append(f"Remark: {rows[0]['note']}")
    if report.num_labels is not None:
        facts.append(f"Classes: {report.head or 'numbered; neither the file nor its name identifies the data set'}")
    if report.num_answers is not None:
        named = answers_of(classes_of(model.config))
        numbered = "numbered; no list of them was given" if named[0] == numbered_answer(0) else f"{named[0]}, ..."
        facts.append(f"Answers: {len(named)}, {numbered}")
    if is_certain and rows[0]["labels"] == report.head and (test := published(rows[0])):
        facts.append(f"Published test: {test}")
    names_of: dict[str, list[str]] = {}
    for name, reason in report.left_out.items():
        names_of.setdefault(reason, []).append(f"`{name}`")
    left_out = [f"{reason}: {', '.join(names)}" for reason, names in names_of.items()]
    tag = pipeline_tag(model.config, type(model).__name__)
    stock = not type(model).__module__.startswith("internvideo_hf.")
    write_card(
        folder,
        rows[0]["name"] if is_certain else source,
        family=report.family,
        provenance=f"Converted from `{source}` by internvideo_hf: {report.num_tensors} tensors, "
        f"{report.num_parameters:,} parameters.",
        pipeline_tag=tag,
        facts=facts,
        sections=({"Use": pipeline_snippet(tag, stock)} if tag else {}) | {"Left out": left_out or "Nothing."},
        stock=stock,
    )
