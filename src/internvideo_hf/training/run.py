"""Run a recipe: from data to a run directory with model, logs and provenance."""

import math
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch.utils.data import Dataset, Sampler
from transformers import AutoProcessor, AutoVideoProcessor, EvalPrediction, PrinterCallback
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import logging

from internvideo_hf.auto import FAMILIES
from internvideo_hf.checkpoints.starting import start_from
from internvideo_hf.data.alternating import VideosAndImages
from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.executors.parts import Engine
from internvideo_hf.data.failures import FailureLog, FailureTable
from internvideo_hf.data.shards import ShardDataset
from internvideo_hf.models.common.layer_groups import LayerGroups
from internvideo_hf.processing.presets import build_processor
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.base import Preparation, Prepared
from internvideo_hf.tasks.protocol import Details
from internvideo_hf.training.cache_filling import STAGE, FrozenBackbone, load_backbone
from internvideo_hf.training.card import Origin, Progress, write_card
from internvideo_hf.training.feature_cache import FAILURES, FeatureCache, Filled, fill_on_engine
from internvideo_hf.training.inputs import (
    Processor,
    TrainingData,
    add_images,
    make_alternating_sampler,
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
    build_model,
    find_model_class,
    training_task,
)
from internvideo_hf.training.run_directory import (
    ANSWERS,
    FINAL,
    RunLog,
    check_recipe,
    check_room,
    remove_unfinished,
    write_settings,
)
from internvideo_hf.training.start import RANDOM, config_of_start, find_start, same_classes
from internvideo_hf.training.trainer import VideoTrainer, VideoTrainingArguments, last_checkpoint
from internvideo_hf.utils.devices import default_workers
from internvideo_hf.utils.files import DiskFullError, atomic_directory, is_disk_full
from internvideo_hf.utils.locks import lock_folder
from internvideo_hf.utils.pretrained import load_pretrained
from internvideo_hf.utils.storage import StoragePath, below

logger = logging.get_logger(__name__)

Samples = VideoDataset | ShardDataset | FeatureCache | VideosAndImages


def train(
    recipe: Recipe,
    data_root: str | Path = ".",
    output_dir: str | Path = "run",
    *,
    start: str | Path | None = None,
    name: str | None = None,
    report_to: str = "none",
    quiet: bool = False,
) -> Path:
    """Train as a recipe says. The same call resumes an interrupted run, which ends with identical weights.

    Call it in every process of `torchrun` or `accelerate launch`. With fewer devices than the recipe's, batches are
    accumulated, so that a step has as many videos as in the original.

    Args:
        recipe: from `load_recipe`.
        data_root: directory that the recipe's lists, and the paths in them, are relative to.
        output_dir: directory of the run. It holds recipe.yaml, versions.json, log.jsonl, curves.png, failures.jsonl,
            the checkpoints, and at the end final/: the model with its processor and card, and, of classifiers and
            models that answer questions, answers/: what it says of the validation list, one view of each video.
        start: directory, file or released name of the initial weights, if the recipe starts from a checkpoint;
            "random" for random weights.
        name: of the recipe, with its changes, for the model's card, such as "videomae/finetune_base batch_size=16".
        report_to: one of transformers' integrations, e.g. "tensorboard" or "wandb".
        quiet: show no progress bars.

    Returns:
        The directory of the final model.

    Raises:
        RecipeError: if recipe, data and directory do not fit each other.
        ManifestError: if a list of videos is invalid.
        LockedError: if another process trains into the directory.
        OSError: if the directory is not writable, or the disk is too full.
        LossError: if the loss is not finite.
    """
    data_root, output_dir = Path(data_root), Path(output_dir)
    start = find_start(start, recipe.model.start)
    final = output_dir / FINAL
    args = _arguments(recipe, output_dir, report_to, quiet)
    check_recipe(output_dir, recipe, start)
    if final.is_dir():
        logger.warning(f"The run of {output_dir} is finished; its model is {final}.")
        return final
    with lock_folder(output_dir) if args.process_index == 0 else nullcontext():
        if args.process_index == 0:
            remove_unfinished(output_dir)
        try:
            _train(recipe, data_root, args, start, quiet, name or "recipe.yaml")
        except Exception as error:
            if isinstance(error, DiskFullError) or not is_disk_full(error, output_dir):
                raise
            raise DiskFullError.of(output_dir) from error
    return final


def fill_cache(
    recipe: Recipe,
    data_root: str | Path = ".",
    *,
    engine: Engine,
    start: str | Path | None = None,
    timeout: float | None = None,
    retry: bool = False,
    quiet: bool = False,
) -> Filled:
    """Fill the cache of a recipe by several workers; `train` with the same recipe and start computes nothing of it.

    The same call continues after an interruption. Failures are rows of failures.jsonl in the folder of the cache.

    Args:
        recipe: from `load_recipe`, with `data.trunk_cache`.
        data_root: directory that the recipe's lists, and the paths in them, are relative to.
        engine: runs the workers, such as `LocalEngine` or `RayEngine`; mixed precision is the recipe's if they have
            accelerators, as in training.
        start: as of `train`.
        timeout: seconds after which a decoder counts as hung; 600 by default.
        retry: try videos again that have killed or hung their decoder in an earlier run.
        quiet: show no progress bar.

    Returns:
        What was done, and the failures.

    Raises:
        RecipeError: if the recipe has no cache, or recipe and data do not fit each other.
        ManifestError: if a list of videos is invalid.
        LockedError: if another call fills the folder.
        ValueError: if a worker finds other frozen weights.
        OSError: if the disk is too full.
    """
    if recipe.data.trunk_cache is None:
        raise RecipeError("This recipe has no cache. Add data.trunk_cache.folder=FOLDER, here and in training.")
    start, data_root = find_start(start, recipe.model.start), Path(data_root)
    folder = _cache_folder(recipe.data.trunk_cache, data_root)
    args = _arguments(recipe, folder, "none", quiet)
    with lock_folder(folder):
        torch.manual_seed(args.seed)  # for the initial weights
        data, model, processor = _inputs_and_model(recipe, data_root, start)
        assert processor is not None  # a recipe with a cache is of videos
        # Here an unreadable video is a row of the table, whatever training does with it.
        datasets = _datasets(replace(recipe.data, on_error="raise"), data, processor, args)
        options = recipe.training if engine.device() != "cpu" else {}
        dtype = _autocast_dtype(options.get("bf16", False), options.get("fp16", False))
        caches = _caches(recipe.data.trunk_cache, data_root, _adapted(recipe.model, model), args, datasets, dtype)
        load = partial(
            load_backbone,
            model_class=type(model),
            config=model.config,
            start=None if start is None or start == RANDOM else Path(start).absolute(),
            seed=args.seed,
        )
        with FailureTable(folder / FAILURES, STAGE, retry=retry) as table:
            return fill_on_engine(
                caches, load, engine, args.eval_batch_size, table=table, timeout=timeout, quiet=quiet
            )


def _train(
    recipe: Recipe, data_root: Path, args: VideoTrainingArguments, start: str | None, quiet: bool, name: str
) -> None:
    output_dir = Path(str(args.output_dir))
    torch.manual_seed(args.seed)  # for the initial weights
    data, model, processor = _inputs_and_model(recipe, data_root, start)
    task, num_labels = training_task(recipe.model.task), model.config.num_labels
    prepared: Prepared | None = None
    if task.prepare is not None:
        prepared = task.prepare(
            data.train,
            data.validation,
            model,
            getattr(recipe.data, task.section),
            Preparation(
                data_root, args.seed, recipe.data.missing == "skip", processor, _failure_log(recipe.data, args)
            ),
        )
        model, task = prepared.model, prepared.training
    if task.of_config is not None:
        task = task.of_config(model.config)
    trained = _adapted(recipe.model, model)
    check_room(output_dir, trained, args.ema_decay is not None, args.save_total_limit or 2)
    datasets: tuple[Dataset[Any], Dataset[Any] | None]
    if prepared is not None:
        datasets = prepared.train, prepared.validation
    else:
        assert processor is not None  # a model of videos
        datasets = _datasets(recipe.data, data, processor, args)
        if recipe.data.trunk_cache is not None:
            datasets = _cached(recipe.data.trunk_cache, data_root, trained, args, datasets, quiet)
    predictions: list[EvalPrediction] = []  # the last one

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        predictions[:] = [prediction]
        assert task.compute_metrics is not None  # as below
        return task.compute_metrics(prediction)

    trainer = VideoTrainer(
        trained,
        args,
        train_dataset=datasets[0],
        eval_dataset=datasets[1],
        data_collator=make_collator(recipe.data, task, processor, num_labels, training=True),
        eval_collator=make_collator(recipe.data, task, processor, num_labels, training=False),
        train_sampler=_sampler(recipe.data, data, datasets[0], processor, model, args),
        processing_class=processor,
        callbacks=[RunLog(output_dir)],
        compute_metrics=None if task.compute_metrics is None else compute_metrics,
        preprocess_logits_for_metrics=task.preprocess_logits,
    )
    if quiet:
        trainer.remove_callback(PrinterCallback)
    if trainer.is_world_process_zero():
        write_settings(output_dir, recipe, start, args.world_size)
    checkpoint = last_checkpoint(output_dir)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if task.details is not None and data.validation is not None and not isinstance(data.validation, Path):
        _write_answers(trainer, partial(task.details, config=model.config), list(data.validation), predictions)
    writes = None if prepared is None else prepared.save
    _save(trainer, processor, Origin(recipe, name, start, data), output_dir / FINAL, writes)


def _write_answers(
    trainer: VideoTrainer, details: Callable[..., Details], rows: list[Any], predictions: list[EvalPrediction]
) -> None:
    """Write what the final model answers to the validation list; evaluate it, unless the last step has done so."""
    history = [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry]
    if trainer.args.eval_strategy == "no":
        return
    if not predictions or history[-1:] != [trainer.state.global_step]:
        trainer.evaluate()
    if trainer.is_world_process_zero():
        details(predictions[0], rows).write(Path(str(trainer.args.output_dir)) / ANSWERS)


def _arguments(recipe: Recipe, output_dir: Path, report_to: str, quiet: bool) -> VideoTrainingArguments:
    """Return the Trainer's arguments: the recipe's, and those that depend on this machine."""
    options = _training_options(recipe)
    processes = int(os.environ.get("WORLD_SIZE", 1))
    per_process = max(1, recipe.batch_size // processes)
    if "grad_cache" in options:  # the loss compares all pairs of a step, which must be in one batch
        options["per_device_train_batch_size"] = per_process
    accumulated = math.ceil(per_process / options["per_device_train_batch_size"])
    per_device = options["per_device_train_batch_size"] = math.ceil(per_process / accumulated)
    task = training_task(recipe.model.task)
    if task.compares_batch and accumulated > 1:
        remedy = "Use more devices, or a smaller batch_size."
        if task.takes_grad_cache:
            remedy = f"Set training.grad_cache={per_device} to compare all in the same memory."
        logger.warning(
            f"A step has {recipe.batch_size} pairs, but the loss compares only {per_device * processes}. {remedy}"
        )
    args = VideoTrainingArguments(
        str(output_dir),
        gradient_accumulation_steps=accumulated,
        report_to=report_to,
        disable_tqdm=quiet,
        **options,
    )
    if not 0.9 < args.step_batch_size / recipe.batch_size < 1.1:
        logger.warning(f"A step has {args.step_batch_size} videos instead of the recipe's {recipe.batch_size}.")
    if args.n_gpu > 1:
        logger.warning(f"Training on one of {args.n_gpu} GPUs; `torchrun --nproc-per-node {args.n_gpu}` uses all.")
        args._n_gpu = 1  # or Trainer would use torch's DataParallel, in which no loss sees the full batch
    return args


def _training_options(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe's training options over the defaults."""
    task = training_task(recipe.model.task)
    options: dict[str, Any] = {
        "per_device_train_batch_size": 8,
        "eval_strategy": "no" if recipe.data.validation is None else "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 2,
        "logging_steps": 10,
        "dataloader_num_workers": default_workers(),
        # Without a GPU, accelerate would otherwise start no process group.
        "use_cpu": not torch.accelerator.is_available(),
        "dataloader_pin_memory": torch.accelerator.is_available(),
        "accelerator_config": {"dispatch_batches": False},  # every process reads its own shards
        "label_names": list(task.label_names),
        "prediction_loss_only": task.compute_metrics is None and task.prepare is None,
        **recipe.training,
    }
    if options["save_total_limit"] is not None:
        # Trainer deletes the older checkpoint before the newer one is complete.
        options["save_total_limit"] = max(2, options["save_total_limit"])
    options.setdefault("dataloader_persistent_workers", options["dataloader_num_workers"] > 0)
    if not torch.accelerator.is_available() and (options.get("fp16") or options.get("bf16")):
        logger.warning("No GPU found: training in float32.")
        options |= {"fp16": False, "bf16": False}
    return options


def _inputs_and_model(
    recipe: Recipe, data_root: Path, start: str | None
) -> tuple[TrainingData, PreTrainedModel, Processor | None]:
    """Read the lists, and make the model and its processor, which models of features do not have."""
    settings, source = recipe.model, None if start == RANDOM else start
    if (load := training_task(settings.task).load) is not None:
        if source is None:
            raise RecipeError(
                "This recipe trains a model of transformers. Give its folder, or its name on the Hub, by --start-from "
                "(in Python, start)."
            )
        data = TrainingData.read(recipe.data, settings.task, data_root)
        return data, *load(settings, data.classes, source)
    find_model_class(settings)  # fails before lists are read
    start_config = config_of_start(settings, start)
    data = TrainingData.read(recipe.data, settings.task, data_root)
    labels = data.classes
    if start_config is not None and settings.classes_of_start and labels is not None:
        labels = same_classes(data.classes, start_config, source)
    if training_task(settings.task).column == "label":
        data.check_labels(labels if isinstance(labels, int) else len(labels or []))
    tokenizer = make_tokenizer(settings.vocabulary, data.train, recipe.data.caption_rule, source)
    model = build_model(settings, labels, None if tokenizer is None else len(tokenizer), start_config)
    if source is not None:
        model = start_from(model, source)
    processor = _processor(settings.processor, model.config, None if start_config is None else source)
    if tokenizer is not None:
        assert isinstance(processor, InternVideoProcessor)  # the task has texts
        tokenizer.model_max_length = processor.tokenizer.model_max_length
        processor.tokenizer = tokenizer
    return data, model, processor


def _adapted(settings: ModelSettings, model: PreTrainedModel) -> torch.nn.Module:
    """Freeze the recipe's layer groups, and add its LoRA layers."""
    if settings.freeze:
        assert isinstance(model, LayerGroups)  # as all models of this package
        model.freeze_backbone(*settings.freeze)
    if settings.lora is None:
        return model
    from peft import LoraConfig, get_peft_model

    try:
        config = LoraConfig(**settings.lora)
    except TypeError as error:
        raise RecipeError(f"model.lora: {error}; its keys are those of peft's LoraConfig.") from error
    try:
        adapted: torch.nn.Module = get_peft_model(model, config)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"model.lora.target_modules: {error} Name linear layers only.") from error
    for name, layer in adapted.named_modules():
        if hasattr(layer, "lora_A") and getattr(layer.base_layer, "groups", 1) > 1:
            raise RecipeError(
                f"model.lora.target_modules: {name} is a grouped convolution, which peft does not merge. Name linear "
                "layers only."
            )
    return adapted


def _processor(options: dict[str, Any], config: PreTrainedConfig, start: str | None) -> Processor | None:
    """Return the processor of the model, or of the directory it starts from, with the recipe's options."""
    if FAMILIES[config.model_type].video_processor is None:
        if options:
            raise RecipeError(f"model.processor.{next(iter(options))}: {config.model_type} reads features, no pixels.")
        return None
    has_text = FAMILIES[config.model_type].processor is not None
    auto_class = AutoProcessor if has_text else AutoVideoProcessor
    processor: Any = build_processor(config) if start is None else load_pretrained(auto_class, start)
    if has_text:
        processor.null_captions = None  # of the model that training starts from
    videos = video_processor_of(processor)
    if isinstance(videos, InternVideoVideoProcessor):
        if videos.released_views is not None:
            videos.released_views = None  # of the model that training starts from
        _set_options(videos, options, "model.processor.")
        return processor
    encoders = videos.encoders
    for name, values in options.items():
        if name not in encoders or not isinstance(values, dict):
            expected = " or ".join(f"model.processor.{encoder}.{name}" for encoder in encoders)
            raise RecipeError(f"model.processor.{name} belongs to one of the model's encoders: write {expected}.")
        _set_options(encoders[name], values, f"model.processor.{name}.")
    return processor


def _set_options(videos: InternVideoVideoProcessor, options: dict[str, Any], where: str) -> None:
    for name in options:
        if not hasattr(type(videos), name):
            raise RecipeError(f"Unknown option {where}{name} for {type(videos).__name__}.")
    videos.configure(options)


def _datasets(
    settings: DataSettings, data: TrainingData, processor: Processor, args: VideoTrainingArguments
) -> tuple[Samples, Samples | None]:
    """Return the samples for training and for validation."""
    assert settings.clip is not None  # as `parse_recipe` has found
    if isinstance(data.train, Path) and args.max_steps < 1:
        raise RecipeError(f"{data.train} holds shards, whose number of clips is unknown: set training.max_steps.")
    failures = _failure_log(settings, args)
    train, validation = (
        None
        if source is None
        else make_dataset(
            source,
            sample_settings(settings.clip, processor, training=training),
            training=training,
            failures=failures,
            seed=args.seed,
            rank=args.process_index,
            world_size=args.world_size,
        )
        for source, training in ((data.train, True), (data.validation, False))
    )
    assert train is not None  # a recipe has training data
    if settings.images is not None:
        assert isinstance(train, VideoDataset) and data.images is not None
        log = None if failures is None else FailureLog(Path(str(args.output_dir)) / "image_failures.jsonl")
        return add_images(train, data.images, settings.images, processor, log), validation
    return train, validation


def _failure_log(settings: DataSettings, args: VideoTrainingArguments) -> FailureLog | None:
    """Return the log of the run's unreadable videos, if the recipe skips them."""
    return FailureLog(Path(str(args.output_dir)) / "failures.jsonl") if settings.on_error == "skip" else None


def _sampler(
    settings: DataSettings,
    data: TrainingData,
    samples: Dataset[Any],
    processor: Processor | None,
    model: PreTrainedModel,
    args: VideoTrainingArguments,
) -> Sampler[Any] | None:
    """Return the order of the rows, if the recipe asks for one."""
    if isinstance(samples, VideosAndImages):
        assert settings.images is not None
        return make_alternating_sampler(settings.images, samples, args.step_batch_size, args.seed)
    return make_sampler(settings, data.train, processor, model, args.train_batch_size, args.seed)


def _cached(
    settings: dict[str, Any],
    data_root: Path,
    model: torch.nn.Module,
    args: VideoTrainingArguments,
    datasets: tuple[Samples, Samples | None],
    quiet: bool,
) -> tuple[FeatureCache, FeatureCache | None]:
    """Return caches of both datasets, and compute what they lack."""
    model.to(args.device)
    caches = _caches(settings, data_root, model, args, datasets, _autocast_dtype(args.bf16, args.fp16))
    failures = _cache_folder(settings, data_root) / FAILURES
    table = FailureTable(failures, STAGE)
    # Of several processes, none knows which videos the others have read: all rows stay.
    with table if args.world_size == 1 else nullcontext():
        for cache in caches:
            cache.fill(
                cache.views,
                args.eval_batch_size,
                args.dataloader_num_workers,
                args.process_index,
                args.world_size,
                quiet,
                table=table,
            )
    PartialState().wait_for_everyone()
    for cache in caches:
        cache.hold_back(FailureTable(failures, STAGE))
    return caches[0], caches[1] if len(caches) > 1 else None


def _cache_folder(settings: dict[str, Any], data_root: Path) -> Path:
    folder = below(data_root, settings["folder"])
    if isinstance(folder, StoragePath):
        raise RecipeError(
            f"data.trunk_cache.folder is {folder}, in an object store, and features are mapped from a disk. Give the "
            "absolute path of a folder."
        )
    return folder


def _caches(
    settings: dict[str, Any],
    data_root: Path,
    model: torch.nn.Module,
    args: VideoTrainingArguments,
    datasets: tuple[Samples, Samples | None],
    dtype: torch.dtype | None,
) -> list[FeatureCache]:
    """Return the caches of the lists for training and, if there is one, for validation."""
    base: object = model.base_model if isinstance(model, PreTrainedModel) else None  # peft's wrapper is none
    if not isinstance(base, FrozenBackbone) or not base.encoders_frozen:
        raise RecipeError("data.trunk_cache needs frozen encoders and no LoRA: trained layers cannot be cached.")
    train, validation = datasets
    if not isinstance(train, VideoDataset) or not isinstance(validation, VideoDataset | None):
        raise RecipeError("data.trunk_cache needs lists of videos, got shards. Set it to null.")
    epochs = math.ceil(args.num_train_epochs)
    if args.max_steps > 0:
        epochs = math.ceil(args.max_steps * args.step_batch_size / len(train))
    folder, views = _cache_folder(settings, data_root), min(settings.get("views", 1), epochs)
    cache = FeatureCache(train, base, folder, views, dtype)
    return [cache] if validation is None else [cache, FeatureCache(validation, base, folder, 1, dtype)]


def _autocast_dtype(bf16: bool, fp16: bool) -> torch.dtype | None:
    """Return the type of mixed precision; None for no mixed precision."""
    return torch.bfloat16 if bf16 else torch.float16 if fp16 else None


def _save(
    trainer: VideoTrainer,
    processor: Processor | None,
    origin: Origin,
    final: Path,
    write: Callable[[Any, Path], None] | None = None,
) -> None:
    """Write the model, its processor and its card; the directory appears only when complete."""
    if trainer.args.evaluate_ema and trainer.average is not None:
        trainer.average.copy_to(trainer.model)
    if origin.recipe.model.lora is not None:
        wrapped: Any = trainer.model  # peft's wrapper
        trainer.model = trainer.model_wrapped = wrapped.merge_and_unload()
    is_main = trainer.is_world_process_zero()
    with atomic_directory(final) if is_main else nullcontext(final) as folder:
        # Every process takes part: each may hold a part of the weights.
        (written,) = broadcast_object_list([str(folder)])
        if write is None:
            trainer.save_model(written)
        elif is_main:
            write(trainer.accelerator.unwrap_model(trainer.model), folder)
        if is_main:
            (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; recipe.yaml has the settings
            if (tokenizer := getattr(processor, "tokenizer", None)) is not None:
                # It would save its last padding and truncation, which are not settings of the model.
                tokenizer.backend_tokenizer.no_truncation()
                tokenizer.backend_tokenizer.no_padding()
            if processor is not None:
                processor.save_pretrained(folder)
            state = trainer.state
            progress = Progress(state.global_step, trainer.args.step_batch_size, state.epoch or 0.0, state.log_history)
            config: Any = trainer.model.config
            write_card(folder, config, origin, progress)
    trainer.accelerator.wait_for_everyone()
