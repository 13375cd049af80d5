"""A training run: from a recipe and a folder of data to a folder with the model and everything that tells how."""

import math
import os
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch.utils.data import Dataset
from transformers import AutoConfig, AutoVideoProcessor, PrinterCallback
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import logging

from internvideo_hf.checkpoints.cards import write_card
from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.starting import start_from
from internvideo_hf.data.failures import FailureLog
from internvideo_hf.data.shards import ShardDataset
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.models.internvideo.modeling_internvideo import InternVideoForVideoClassification
from internvideo_hf.processing.presets import build_processor
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.training.feature_cache import FeatureCache
from internvideo_hf.training.inputs import (
    Processor,
    TrainingData,
    make_collator,
    make_dataset,
    make_sampler,
    make_tokenizer,
    sample_settings,
    video_processor_of,
)
from internvideo_hf.training.recipes import (
    DataSettings,
    ModelSettings,
    Recipe,
    RecipeError,
    build_model,
    find_model_class,
    training_task,
)
from internvideo_hf.training.run_directory import FINAL, RunLog, check_recipe, check_room, write_settings
from internvideo_hf.training.trainer import VideoTrainer, VideoTrainingArguments, last_checkpoint
from internvideo_hf.utils.devices import default_workers

logger = logging.get_logger(__name__)


def train(
    recipe: Recipe,
    data_root: str | Path = ".",
    output_dir: str | Path = "run",
    *,
    start: str | Path | None = None,
    report_to: str = "none",
    quiet: bool = False,
) -> Path:
    """Train as a recipe says; the same call goes on where it was stopped, and ends with the same weights.

    In every process of `torchrun` or `accelerate launch` alike. Where fewer devices than the recipe's give a smaller
    batch, batches are accumulated, so that a step sees as many videos as the original's.

    Args:
        recipe: from `load_recipe`.
        data_root: the folder that the recipe's lists, and the paths in them, begin in.
        output_dir: the folder of the run, which holds recipe.yaml, versions.json, log.jsonl, curves.png,
            failures.jsonl, the checkpoints and in the end final/, the model with its processor and card.
        start: the folder or file with the weights to start from, where the recipe says what they are; "random" to
            draw them all the same.
        report_to: of transformers' integrations, such as "tensorboard", "wandb".
        quiet: no progress bars.

    Returns:
        The folder of the final model.

    Raises:
        RecipeError: if recipe, data and folder do not fit each other.
        ManifestError: if a list of videos is not as it should be.
        OSError: if the folder cannot be written, or lacks room.
        LossError: if the loss is not finite.
    """
    data_root, output_dir = Path(data_root), Path(output_dir)
    final = output_dir / FINAL
    args = _arguments(recipe, output_dir, report_to, quiet)
    start = None if start is None else str(start)
    check_recipe(output_dir, recipe, start)
    if final.is_dir():
        logger.warning(f"{output_dir} holds a run that has ended; its model is {final}.")
        return final
    torch.manual_seed(args.seed)  # the weights that are drawn
    task = training_task(recipe.model.task)
    find_model_class(recipe.model)  # before lists are read
    data = TrainingData.read(recipe.data, recipe.model.task, data_root)
    start_config = _start_config(recipe.model, start)
    labels = data.classes if start_config is None else _same_classes(data.classes, start_config, start)
    num_labels = labels if isinstance(labels, int) else len(labels or [])
    if task.column == "label":
        data.check_labels(num_labels)
    tokenizer = make_tokenizer(recipe.model.vocabulary, data.train, recipe.data.caption_rule, start)
    model = _model(recipe, labels, start, None if tokenizer is None else len(tokenizer), start_config)
    processor = _processor(recipe.model.processor, model.config, None if start_config is None else start)
    trained = _adapted(recipe.model, model)
    check_room(output_dir, trained, args.ema_decay is not None, args.save_total_limit or 2)
    if tokenizer is not None:
        tokenizer.model_max_length = processor.tokenizer.model_max_length
        processor.tokenizer = tokenizer
    train_dataset, eval_dataset = _datasets(recipe.data, data, processor, args)
    if recipe.data.trunk_cache is not None:
        train_dataset, eval_dataset = _cached(
            recipe.data.trunk_cache, data_root, trained, args, (train_dataset, eval_dataset), quiet
        )
    trainer = VideoTrainer(
        trained,
        args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        data_collator=make_collator(recipe.data, task, processor, num_labels, training=True),
        eval_collator=make_collator(recipe.data, task, processor, num_labels, training=False),
        train_sampler=make_sampler(recipe.data, train_dataset, processor, model, args.train_batch_size, args.seed),
        processing_class=processor,
        callbacks=[RunLog(output_dir)],
        compute_metrics=task.compute_metrics,
        preprocess_logits_for_metrics=task.preprocess_logits,
    )
    if quiet:
        trainer.remove_callback(PrinterCallback)
    if trainer.is_world_process_zero():
        write_settings(output_dir, recipe, start, args.world_size)
    trainer.train(resume_from_checkpoint=str(kept) if (kept := last_checkpoint(output_dir)) else None)
    _save(trainer, recipe, processor, start, final)
    return final


def _arguments(recipe: Recipe, output_dir: Path, report_to: str, quiet: bool) -> VideoTrainingArguments:
    """The Trainer's arguments: the recipe's, and what follows from this machine."""
    task = training_task(recipe.model.task)
    options = {
        "per_device_train_batch_size": 8,
        "eval_strategy": "no" if recipe.data.validation is None else "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 2,
        "logging_steps": 10,
        "dataloader_num_workers": default_workers(),
        # Or accelerate would start no group of processes where there is no GPU.
        "use_cpu": not torch.accelerator.is_available(),
        "dataloader_pin_memory": torch.accelerator.is_available(),
        "accelerator_config": {"dispatch_batches": False},  # every process reads its own shards
        "label_names": list(task.label_names),
        "prediction_loss_only": task.compute_metrics is None,
        **recipe.training,
    }
    if options["save_total_limit"] is not None:
        # The older checkpoint goes before the newer one is whole.
        options["save_total_limit"] = max(2, options["save_total_limit"])
    options.setdefault("dataloader_persistent_workers", options["dataloader_num_workers"] > 0)
    if not torch.accelerator.is_available() and (options.get("fp16") or options.get("bf16")):
        logger.warning("There is no GPU here: training in float32.")
        options |= {"fp16": False, "bf16": False}
    processes = int(os.environ.get("WORLD_SIZE", 1))
    of_process = max(1, recipe.batch_size // processes)
    if "grad_cache" in options:  # the loss compares what one step sees, so it must be there at once
        options["per_device_train_batch_size"] = of_process
    accumulated = math.ceil(of_process / options["per_device_train_batch_size"])
    at_once = options["per_device_train_batch_size"] = math.ceil(of_process / accumulated)
    if task.compares_batch and accumulated > 1:
        logger.warning(
            f"A step sees {recipe.batch_size} pairs, but only {at_once * processes} are compared with each other. Set "
            f"training.grad_cache={at_once} to compare all in the same memory."
        )
    args = VideoTrainingArguments(
        str(output_dir),
        gradient_accumulation_steps=accumulated,
        report_to=report_to,
        disable_tqdm=quiet,
        **options,
    )
    if not 0.9 < args.step_batch_size / recipe.batch_size < 1.1:
        logger.warning(f"A step sees {args.step_batch_size} videos, in place of the recipe's {recipe.batch_size}.")
    if args.n_gpu > 1:
        logger.warning(f"Training on one of {args.n_gpu} GPUs; `torchrun --nproc-per-node {args.n_gpu}` uses all.")
        args._n_gpu = 1  # or Trainer would take torch's DataParallel, in which no loss sees the whole batch
    return args


def _datasets(
    settings: DataSettings, data: TrainingData, processor: Processor, args: VideoTrainingArguments
) -> tuple[Dataset, Dataset | None]:
    """The samples for training and for validation."""
    if isinstance(data.train, Path) and args.max_steps < 1:
        raise RecipeError(
            f"{data.train} holds shards, which do not say how many clips there are: set training.max_steps."
        )
    failures = None
    if settings.on_error == "skip":
        failures = FailureLog(Path(args.output_dir) / "failures.jsonl")
    shared = {"failures": failures, "seed": args.seed, "rank": args.process_index, "world_size": args.world_size}
    train, validation = (
        None
        if source is None
        else make_dataset(
            source, sample_settings(settings.clip, processor, training=training), training=training, **shared
        )
        for source, training in ((data.train, True), (data.validation, False))
    )
    return train, validation


def _start_config(settings: ModelSettings, start: str | None) -> PreTrainedConfig | None:
    """The configuration of what training starts from, where the recipe takes it over."""
    if not settings.config_of_start or start in (None, "random"):
        return None
    if not (Path(start) / "config.json").is_file():
        raise CheckpointError(f"{start} is no model's folder: there is no config.json.")
    config = AutoConfig.from_pretrained(start)
    if config.model_type != settings.family:
        raise RecipeError(
            f"{start} holds a {config.model_type!r} model, expected {settings.family!r}: {settings.start}."
        )
    return config


def _same_classes(labels: list[str] | int | None, config: PreTrainedConfig, start: str) -> list[str]:
    """The classes of what training starts from, which must be the recipe's, where it names any."""
    there = classes_of(config)
    if isinstance(labels, list) and labels != there:
        raise RecipeError(
            f"{start} knows {len(there)} classes ({there[0]}, ...), and data.labels names {len(labels)} "
            f"({labels[0]}, ...). Start from a model of the same classes in the same order, or correct data.labels."
        )
    return there


def _model(
    recipe: Recipe,
    labels: list[str] | int | None,
    start: str | Path | None,
    vocabulary_size: int | None,
    start_config: PreTrainedConfig | None,
) -> PreTrainedModel:
    model = build_model(recipe, labels, vocabulary_size, start_config)
    if start is None and recipe.model.start is not None:
        raise RecipeError(
            f"This recipe starts from {recipe.model.start}. Give its folder by --start-from (internvideo convert "
            "writes it, or internvideo fuse; for CLIP, a folder or file of CLIP's own), or --start-from random to "
            "draw all weights."
        )
    return model if start in (None, "random") else start_from(model, start)


def _adapted(settings: ModelSettings, model: PreTrainedModel) -> torch.nn.Module:
    """The model with what is frozen frozen, and with low-rank additions where the recipe wants them."""
    if settings.freeze:
        model.freeze_backbone(*settings.freeze)
    if settings.lora is None:
        return model
    from peft import LoraConfig, get_peft_model

    try:
        return get_peft_model(model, LoraConfig(**settings.lora))
    except TypeError as error:
        raise RecipeError(f"model.lora: {error}; its keys are those of peft's LoraConfig.") from error


def _processor(options: dict[str, Any], config: PreTrainedConfig, start: str | None) -> Processor:
    """The model's processor, or that of the folder it starts from, with the recipe's options."""
    processor = build_processor(config) if start is None else AutoVideoProcessor.from_pretrained(start)
    videos = video_processor_of(processor)
    if len(videos.branches) == 1:
        _set_options(videos, options, "model.processor.")
        return processor
    encoders = videos.encoders
    for name, values in options.items():
        if name not in encoders or not isinstance(values, dict):
            known = " or ".join(f"model.processor.{encoder}.{name}" for encoder in encoders)
            raise RecipeError(f"model.processor.{name} belongs to one of the model's encoders: write {known}.")
        _set_options(encoders[name], values, f"model.processor.{name}.")
    return processor


def _set_options(videos: InternVideoVideoProcessor, options: dict[str, Any], where: str) -> None:
    for name, value in options.items():
        if not hasattr(type(videos), name):
            raise RecipeError(f"{where}{name} is no option of a {type(videos).__name__}.")
        setattr(videos, name, value)


def _cached(
    settings: dict[str, Any],
    data_root: Path,
    model: torch.nn.Module,
    args: VideoTrainingArguments,
    datasets: tuple[Dataset, Dataset | None],
    quiet: bool,
) -> tuple[FeatureCache, FeatureCache | None]:
    """Both lists of videos as the outputs of the model's frozen trunks, computed where they are not there yet."""
    if not isinstance(model, InternVideoForVideoClassification) or not model.encoders_frozen:
        raise RecipeError("data.trunk_cache needs frozen encoders, and no LoRA: what is trained cannot be kept.")
    views, folder = settings.get("views", 1), data_root / settings["folder"]
    epochs = math.ceil(args.num_train_epochs)
    if args.max_steps > 0:
        epochs = math.ceil(args.max_steps * args.step_batch_size / len(datasets[0]))
    half = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    options = {"batch_size": args.eval_batch_size, "workers": args.dataloader_num_workers, "quiet": quiet}
    options |= {"rank": args.process_index, "world_size": args.world_size}
    model.to(args.device)
    caches: list[FeatureCache | None] = []
    for dataset, drawn in zip(datasets, (min(views, epochs), 1), strict=True):
        if isinstance(dataset, ShardDataset):
            raise RecipeError("data.trunk_cache needs lists of videos, and these are shards. Set it to null.")
        caches.append(None if dataset is None else FeatureCache(dataset, model.internvideo, folder, drawn, half))
        if dataset is not None:
            caches[-1].fill(drawn, **options)
    PartialState().wait_for_everyone()
    return caches[0], caches[1]


def _save(trainer: VideoTrainer, recipe: Recipe, processor: Processor, start: str | None, final: Path) -> None:
    """Write the model, its processor and its card; the folder appears whole."""
    unfinished = final.with_name(f".unfinished-{final.name}")
    if trainer.args.evaluate_ema:
        trainer.average.copy_to(trainer.model)
    if recipe.model.lora is not None:
        trainer.model = trainer.model_wrapped = trainer.model.merge_and_unload()
    trainer.save_model(str(unfinished))
    if trainer.is_world_process_zero():
        (unfinished / "training_args.bin").unlink(missing_ok=True)  # a pickle, and recipe.yaml says more
        if (tokenizer := getattr(processor, "tokenizer", None)) is not None:
            # It writes down how it padded and cut last, which is no setting of the model.
            tokenizer.backend_tokenizer.no_truncation()
            tokenizer.backend_tokenizer.no_padding()
        processor.save_pretrained(unfinished)
        _write_card(unfinished, trainer, recipe, start)
        unfinished.rename(final)
    trainer.accelerator.wait_for_everyone()


def _write_card(folder: Path, trainer: VideoTrainer, recipe: Recipe, start: str | None) -> None:
    history = trainer.state.log_history
    found = next((entry for entry in reversed(history) if "eval_loss" in entry), {})
    names = [key for key in found if key.startswith("eval_") and not key.endswith(("runtime", "per_second"))]
    scores = [f"{key.removeprefix('eval_')}: {found[key]:.4g}" for key in names]
    expected = recipe.expected
    published = f"{expected.metric} {expected.value}" if expected and expected.value is not None else "no number"
    write_card(
        folder,
        recipe.title,
        family=recipe.model.family,
        provenance=f"Trained by internvideo_hf from the recipe in `recipe.yaml` beside this folder: "
        f"{trainer.state.global_step} steps of {trainer.args.step_batch_size} videos ({trainer.state.epoch:.4g} "
        f"epochs), started from {'random weights' if start in (None, 'random') else Path(start).name}.",
        sections={
            "Validation, one view per video": scores or "None.",
            "The recipe": [
                f"Source: {'; '.join(recipe.source)}",
                f"The original reports: {published}",
                *recipe.notes,
            ],
            "License": "Ask the owners of the data, and of the weights that training started from, what the model "
            "may be used for.",
        },
    )
