"""Average models tensor by tensor: WiSE-FT (arXiv 2109.01903), as in the released evaluations."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from internvideo_hf.checkpoints.cards import append_to_card
from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.model_names import resolve_known
from internvideo_hf.checkpoints.saving import check_replaceable, save_safetensors
from internvideo_hf.utils.files import atomic_directory
from internvideo_hf.utils.loader import MODULE, write_module
from internvideo_hf.utils.names import unknown_name
from internvideo_hf.utils.pretrained import check_model_folder, shard_names

# Files of a model's folder to copy: settings and texts, not weights or the state of training.
DESCRIBING = (".json", ".txt", ".md", ".jinja", ".model")
NOT_DESCRIBING = (SAFE_WEIGHTS_INDEX_NAME, "pytorch_model.bin.index.json", "trainer_state.json")

_CLIP_ENDS = (
    "text_model.embeddings.token_embedding.weight",
    "text_model.embeddings.position_embedding.weight",
    "text_model.final_layer_norm.*",
    "text_projection.weight",
    "vision_model.embeddings.*",
    "vision_model.pre_layernorm.*",
)


@dataclass(frozen=True)
class Variant:
    """The tensors that a released evaluation averages; all others are the fine-tuned model's.

    Args:
        family: `model_type` of the models.
        averaged: patterns of our names; `{}` matches a number and `*` anything.
        but_not: patterns of exceptions.
    """

    family: str
    averaged: tuple[str, ...]
    but_not: tuple[str, ...] = ()


VARIANTS = {
    # The original's list was written for B/16. It was used for L/14 too, whose upper twelve video layers are therefore
    # not averaged, as in the published zero-shot scores (reference case `cotrain_wiseft`).
    "internvideo_mm": Variant(
        "internvideo_mm",
        (
            *_CLIP_ENDS,
            *(f"text_model.encoder.layers.{layer}.*" for layer in range(12)),
            *(f"vision_model.layers.{layer}.*" for layer in range(12)),
            "post_layernorm.*",
            "visual_projection.weight",
        ),
    ),
    # The names that the model and OpenAI's CLIP share: every layer and the temperature, but not the two modules at the
    # end of the video tower.
    "retrieval": Variant(
        "internvideo_mm",
        (*_CLIP_ENDS, "text_model.encoder.layers.{}.*", "vision_model.layers.{}.*", "logit_scale"),
    ),
    # Image CLIP has no temporal table.
    "viclip": Variant("viclip", ("*",), but_not=("vision_model.embeddings.temporal_embedding",)),
}


def merge_checkpoints(
    base: str | Path,
    finetuned: str | Path | Sequence[str | Path],
    output_dir: str | Path,
    *,
    weight: float = 0.5,
    variant: str | None = None,
    overwrite: bool = False,
) -> int:
    """Write the average of a model before and after training: `weight * base + (1 - weight) * finetuned`.

    Configuration and processor are the fine-tuned model's. The tensors are read, averaged and written one by one.

    Args:
        base: folder of the model before training, such as `initialize_from_clip(...).save_pretrained` writes.
        finetuned: folder of the trained model; the mean of several is taken first.
        output_dir: the folder to write, atomically.
        weight: of the base, 0-1. The published zero-shot scores use 0.5.
        variant: list of averaged tensors, a name in `VARIANTS`; the family's own by default.
        overwrite: replace `output_dir` if it holds a model.

    Returns:
        The number of averaged tensors; the others are the fine-tuned model's.

    Raises:
        CheckpointError: if a folder holds no model, or the models differ in family or tensors.
        ValueError: if the weight is not in 0-1 or the variant is unknown.
        FileExistsError: if `output_dir` is in the way.
    """
    names = [finetuned] if isinstance(finetuned, str | Path) else finetuned
    folders = [Path(resolve_known(name)) for name in names]
    base, output_dir = Path(resolve_known(base)), Path(output_dir)
    if not 0 <= weight <= 1:
        raise ValueError(f"weight: got {weight}, expected a number from 0 to 1.")
    if not folders:
        raise ValueError("finetuned: got no folder, expected one or more.")
    _check_output(output_dir, [base, *folders], overwrite)
    configs = {folder: _config(folder) for folder in (base, *folders)}
    family = configs[base].get("model_type")
    variant = variant or family
    if variant not in VARIANTS:
        raise ValueError(unknown_name(variant, VARIANTS, "variant"))
    for folder, config in configs.items():
        if config.get("model_type") != VARIANTS[variant].family:
            raise CheckpointError(
                f"{folder} holds a model of the family {config.get('model_type')}; the variant {variant!r} averages "
                f"{VARIANTS[variant].family} models. Give models of one family."
            )
    start, *trained = [_tensors(folder) for folder in (base, *folders)]
    averaged = {name for name in trained[0] if is_averaged(name, variant)}
    # A base of towers alone serves a model with more: what is beside them is the trained model's.
    beside = trained[0].keys() - averaged - start.keys()
    _check_alike(base, start | {name: trained[0][name] for name in beside}, folders[0], trained[0])
    for folder, tensors in zip(folders[1:], trained[1:], strict=True):
        _check_alike(folders[0], trained[0], folder, tensors)

    def average(name: str) -> torch.Tensor:
        return merge_tensors(start[name] if name in averaged else None, [model[name] for model in trained], weight)

    dtype = next(tensor.dtype for tensor in trained[0].values() if tensor.is_floating_point())
    with atomic_directory(output_dir) as folder:
        for file in folders[0].iterdir():
            if file.is_file() and file.suffix in DESCRIBING and file.name not in NOT_DESCRIBING:
                shutil.copy(file, folder / file.name)
            elif file.name == f"{MODULE}.py":
                write_module(folder)  # not a copy: it may be anyone's code
        sources = ", ".join(f"`{source.name}`" for source in folders)
        append_to_card(
            folder,
            "Average",
            f"{weight} `{base.name}` + {1 - weight} {sources} in {len(averaged)} tensors ({variant}), "
            f"{len(trained[0]) - len(averaged)} tensors of the latter alone.",
        )
        save_safetensors(trained[0], folder / SAFE_WEIGHTS_NAME, dtype, compute=average)
    return len(averaged)


def is_averaged(name: str, variant: str) -> bool:
    """Return whether a variant averages the tensor of our name."""
    rule = VARIANTS[variant]
    return any(_matches(pattern, name) for pattern in rule.averaged) and not any(
        _matches(pattern, name) for pattern in rule.but_not
    )


def _matches(pattern: str, name: str) -> bool:
    return bool(re.fullmatch(re.escape(pattern).replace(r"\{\}", r"\d+").replace(r"\*", ".+"), name))


def merge_tensors(base: torch.Tensor | None, finetuned: Sequence[torch.Tensor], weight: float) -> torch.Tensor:
    """Return the mean of fine-tuned tensors, averaged with the base, in float32; integers are the first model's.

    Args:
        base: None for a tensor that is not averaged with the base.
        finetuned: one or more, of one shape.
        weight: of the base, 0-1.
    """
    if not finetuned[0].is_floating_point():
        return finetuned[0]
    mean = torch.stack([tensor.float() for tensor in finetuned]).mean(dim=0) if len(finetuned) > 1 else finetuned[0]
    return mean if base is None else weight * base.float() + (1 - weight) * mean.float()


def _check_output(output_dir: Path, sources: Sequence[Path], overwrite: bool) -> None:
    for source in sources:
        if source.resolve().is_relative_to(output_dir.resolve()):
            raise FileExistsError(
                f"{output_dir} is or holds {source}, an input of the average. Choose another folder."
            )
    check_replaceable(output_dir, overwrite)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return config
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(
            f"{folder} holds no config.json. Give the folder that `internvideo convert` or save_pretrained wrote."
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{folder}/config.json is damaged: {error}. Convert the model again.") from error


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return the memory-mapped weights of a model's folder, of one file or several."""
    check_model_folder(folder)
    files = [SAFE_WEIGHTS_NAME]
    if (index := folder / SAFE_WEIGHTS_INDEX_NAME).is_file():
        files = sorted(set(shard_names(index)))
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        if not (folder / file).is_file():
            raise CheckpointError(f"{folder} lacks {file}. Convert or download the model again.")
        try:
            tensors |= load_file(folder / file)
        except SafetensorError as error:
            raise CheckpointError(f"{folder / file} is damaged: {error}. Convert the model again.") from error
    return tensors


def _check_alike(
    base: Path, start: Mapping[str, torch.Tensor], folder: Path, tensors: Mapping[str, torch.Tensor]
) -> None:
    if surplus := sorted(set(start) ^ set(tensors)):
        raise CheckpointError(f"{base} and {folder} differ in which tensors they hold: {', '.join(surplus[:4])}, ...")
    for name, tensor in tensors.items():
        if tensor.shape != start[name].shape:
            raise CheckpointError(
                f"{name} has the shape {tuple(start[name].shape)} in {base} and {tuple(tensor.shape)} in {folder}. "
                "Only models of one size can be averaged; re-sample position tables when converting."
            )
