"""Commands for training: `train`, `cache`, `recipes`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from internvideo_hf.cli.completion import recipe_names, training_names
from internvideo_hf.cli.options import (
    OR_STORED,
    Address,
    DecoderTimeout,
    Device,
    EngineName,
    Gpus,
    Quiet,
    Retry,
    engine_of,
)
from internvideo_hf.cli.reporting import report_failures, say

RecipeName = Annotated[
    str, typer.Argument(help="A name from `internvideo recipes`, or a .yaml file.", autocompletion=training_names)
]
Changes = Annotated[list[str] | None, typer.Argument(help="Settings to change, such as training.learning_rate=1e-4.")]
ListsRoot = Annotated[
    Path, typer.Option(help=f"Folder that the recipe's lists, and the paths in them, start from; {OR_STORED}.")
]
StartFrom = Annotated[  # torchrun takes --start-from for one of its own
    str | None,
    typer.Option(
        help='Initial weights: a converted folder, a released name, a CLIP folder or file; "random" for none.'
    ),
]


def train(
    recipe: RecipeName,
    changes: Changes = None,
    data_root: ListsRoot = Path("."),
    output_dir: Annotated[Path, typer.Option(help="Run directory.")] = Path("run"),
    grad_cache: Annotated[
        int | None,
        typer.Option(min=1, help="Pairs per forward pass of a dual encoder; the loss still compares the batch."),
    ] = None,
    start_from: StartFrom = None,
    report_to: Annotated[str, typer.Option(help='Additional logger: "tensorboard", "wandb", ...')] = "none",
    quiet: Quiet = False,
) -> None:
    """Train a model from a recipe, on one GPU, many, or none.

    Your own videos: a folder of clips for each class, train/CLASS/clip.mp4 and val/CLASS/clip.mp4 below --data-root,
    or lists train.csv and val.csv of `path,label`. Labels may be names; the model keeps them. Recipes finetune_base
    take the size of the model that they start from. Settings of a recipe are changed behind its name: batch_size=16,
    training.bf16=true for mixed precision.

    On several GPUs: torchrun --nproc-per-node 8 -m internvideo_hf.cli train RECIPE ..., or accelerate launch.
    Resumable: rerun the same command after an interruption; a resumed run ends with identical weights.

    Example: internvideo train videomae/finetune_base --data-root videos --start-from vit-b-pretrained
    """
    _hide_progress(quiet)
    from internvideo_hf.training.recipes import load_recipe
    from internvideo_hf.training.run import train
    from internvideo_hf.training.run_directory import ANSWERS

    changes = [*(changes or []), *([] if grad_cache is None else [f"training.grad_cache={grad_cache}"])]
    loaded = load_recipe(recipe, changes)
    name = " ".join([recipe, *changes])
    final = train(loaded, data_root, output_dir, start=start_from, name=name, report_to=report_to, quiet=quiet)
    if int(os.environ.get("RANK", 0)) == 0:
        answers = final.with_name(ANSWERS)
        more = f" Its answers to the validation list are in {answers}." if answers.is_dir() else ""
        say(f"The model is in {final}.{more}")


def cache(
    recipe: RecipeName,
    changes: Changes = None,
    data_root: ListsRoot = Path("."),
    start_from: StartFrom = None,
    engine: EngineName = "local",
    address: Address = None,
    gpus: Gpus = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Decoding processes (default: one per core).")] = None,
    video_timeout: DecoderTimeout = None,
    retry: Retry = False,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Fill the cache of a recipe with frozen encoders before training, by several workers.

    Give recipe, settings, --data-root and --start-from as to `train`, which then finds the outputs of the frozen
    encoders in the folder of data.trunk_cache, and computes none. The devices must be of the same kind: with fp16 or
    bf16 in the recipe, GPUs compute what a CPU does not.

    Resumable: rerun the same command after an interruption. Models and decoders run in processes of their own, and a
    video that kills one is a failure. Failures are rows of failures.jsonl in the folder of the cache.

    Example: internvideo cache internvideo/cma_k400 data.trunk_cache.folder=kept --start-from fused --gpus 8
    """
    _hide_progress(quiet)
    from internvideo_hf.training.recipes import load_recipe
    from internvideo_hf.training.run import fill_cache

    loaded = load_recipe(recipe, changes or [])
    workers = engine_of(engine, address, gpus, jobs, device, apart=True)
    assert workers is not None  # `apart`
    done = fill_cache(
        loaded, data_root, engine=workers, start=start_from, timeout=video_timeout, retry=retry, quiet=quiet
    )
    if not quiet:
        say(f"Of {done.total} clips, {done.computed} are new.")
    report_failures([str(error) for error in done.failures.values()], done.videos)


def _hide_progress(quiet: bool) -> None:
    """Hide progress bars of every file that is read and written; those of the work itself stay."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    if quiet:
        import datasets

        datasets.disable_progress_bars()


def recipes(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="Recipe to show: a name, that of a protocol of evaluate, or a .yaml file.",
            autocompletion=recipe_names,
        ),
    ] = None,
) -> None:
    """List the training recipes, or show one with the recipe that sets each value.

    Example: internvideo recipes videomae/finetune_base_k400
    """
    from internvideo_hf.recipes.reading import EVALUATIONS, TRAININGS

    if recipe in EVALUATIONS.names():
        say(EVALUATIONS.show(recipe))
        return
    if recipe is not None:
        from internvideo_hf.training.recipes import load_recipe

        load_recipe(recipe)  # refuses what is invalid in a file
        say(TRAININGS.show(recipe))
        return
    for name in TRAININGS.names():
        say(f"{name:45} {TRAININGS.read(name)['title']}")
