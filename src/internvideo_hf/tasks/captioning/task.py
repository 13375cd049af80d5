"""Captioning: describe a video in words."""

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForMultimodalLM, AutoProcessor

from internvideo_hf.inference.embedder import pixel_settings
from internvideo_hf.inference.rows import Loader, Work, of_views, run_rows
from internvideo_hf.inference.runner import Views, load_by_name, load_model, read_views
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.base import Task
from internvideo_hf.tasks.caption_training import training_on_captions
from internvideo_hf.tasks.captioning.answers import Captions
from internvideo_hf.tasks.captioning.metrics import METRICS, captioning_metrics, check_installed
from internvideo_hf.tasks.protocol import (
    Evaluation,
    Outcome,
    Protocol,
    Run,
    Samples,
    check_list,
    config_of_kind,
    model_facts,
    read_rows,
    require_column,
    unique_clips,
)
from internvideo_hf.utils.names import check_name
from internvideo_hf.utils.pretrained import load_pretrained

GENERATION = (
    *("num_beams", "length_penalty", "early_stopping", "min_new_tokens", "max_new_tokens"),
    *("repetition_penalty", "no_repeat_ngram_size"),
)
"""Options of transformers' `generate` that a protocol may set: without draws, so that its score is one number."""


def _check(protocol: Protocol) -> None:
    check_list(protocol.data.layout)
    for name in protocol.generation:
        check_name(name, GENERATION, "generation", RecipeError)


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    refusal = "writes no captions: convert a checkpoint with a caption decoder."
    config_of_kind(protocol, model, "ForConditionalGeneration", refusal)
    check_installed()
    rows = read_rows(protocol.data, data_root, check_labels=False, allow_duplicates=True)
    require_column(rows, "caption", protocol.data.list)
    videos, owners = unique_clips(rows)
    return Samples(videos, owners, [row["caption"] for row in rows])


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    model: Any = load_model(AutoModelForMultimodalLM, run.model, run.device, protocol.dtype)
    processor = load_pretrained(AutoProcessor, run.model)
    processor.video_processor.configure(protocol.pixels)
    facts = {**model_facts(model), "pixels": pixel_settings(processor.video_processor)}
    videos = [dict(row) for row in samples.videos]
    work = Work(
        partial(read_views, processor=processor.video_processor, num_clips=1, num_crops=1),
        partial(of_views, compute=partial(_describe, options=protocol.generation)),
        Loader(load_by_name, run.model, (("auto_class", "AutoModelForMultimodalLM"), ("dtype", protocol.dtype))),
        blanks={"ids": model.config.text_config.eos_token_id},
    )
    parts = run.parts_of(model, facts, protocol.generation, videos)
    found, causes = run_rows(videos, model, work, run.settings, parts=parts, description="Describing")
    captions = ["" if number in causes else processor.decode_text(ids) for number, ids in enumerate(found["ids"])]
    references: dict[int, list[str]] = defaultdict(list)
    for owner, text in zip(samples.owners.tolist(), samples.texts, strict=True):
        references[owner].append(text)
    details = Captions([str(row["video"]) for row in samples.videos], captions, list(references.values()))
    return Outcome(captioning_metrics(captions, details.references), causes, facts, details)


@torch.no_grad()
def _describe(model: Any, views: Views, options: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Write captions, as ids padded with the end of the text."""
    text = model.config.text_config
    written = model.generate(views["pixel_values_videos"][:, 0].to(model.device, model.dtype), **options).cpu()
    ids = torch.full((len(written), text.max_position_embeddings), text.eos_token_id)
    ids[:, : written.shape[1]] = written
    return {"ids": ids}


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    options = result["settings"]["generation"]
    search = ", ".join(f"{name} {value}" for name, value in options.items()) or "the best token each time"
    return {"captions": f"{search}; {result['data']['texts']} of people to compare with"}


TASK = Task(
    "captioning",
    # The decoder learns with the towers, whose contrast is a part of the loss.
    training=training_on_captions("AutoModelForMultimodalLM"),
    evaluation=Evaluation(
        read=_read,
        run=_run,
        columns=METRICS,
        settings=("data.layout", "data.only", "generation"),
        check=_check,
        facts=_facts,
        has_details=True,
        on_engines=True,
    ),
)
