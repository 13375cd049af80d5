"""`convert`, `merge` and `fuse`: commands that write model folders."""

from pathlib import Path
from typing import Annotated

import typer

from internvideo_hf.cli.options import Quiet, known_model, read_json
from internvideo_hf.cli.reporting import quieten_transformers


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A released file (.ckpt, .pth, .bin, .safetensors).")],
    output: Annotated[Path, typer.Argument(help="The folder to write; it appears whole or not at all.")],
    config: Annotated[
        Path | None,
        typer.Option(help="JSON file with configuration values that no shape tells, nested as in config.json."),
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="Data set of the head's classes, such as k400; a K710 head gives it too.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(help='"transformers-videomae": a folder for transformers\' own VideoMAE classes.')
    ] = None,
    processor: Annotated[
        str | None, typer.Option(help='ViCLIP: whose pixels the processor makes, "training" or "demo".')
    ] = None,
    dtype: Annotated[str, typer.Option(help="Number type to store: float32, float16 or bfloat16.")] = "float32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT if it is there.")] = False,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Run the code that the file may hold. Only for files you trust.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Convert a released checkpoint into a folder that from_pretrained loads.

    Family and sizes are recognised from the tensors; every tensor is used or named as left out.

    Example: internvideo convert InternVideo-MM-L-14.ckpt internvideo-mm-l14
    """
    overrides = read_json(config) if config is not None else {}
    quieten_transformers()
    from internvideo_hf.checkpoints import convert_checkpoint

    report = convert_checkpoint(
        checkpoint,
        output,
        config_overrides=overrides,
        head=head,
        to=to,
        processor=processor,
        dtype=dtype,
        trust_pickle=trust_pickle,
        overwrite=overwrite,
    )
    if quiet:
        return
    typer.echo(f"{checkpoint}: recognised as {report.family}.")
    if report.head is not None:
        typer.echo(f"Its classes are those of {report.head}.")
    elif report.num_labels is not None:
        typer.echo(f"Its {report.num_labels} classes keep their numbers for names: {_heads(report.num_labels)}.")
    for name, reason in report.left_out.items():
        typer.echo(f"left out  {name}  ({reason})")
    typer.echo(
        f"Wrote {report.num_tensors} tensors ({report.num_parameters:,} parameters, {dtype}) to {output}; "
        f"{len(report.left_out)} tensors of the file were left out."
    )


def merge(
    base: Annotated[Path, typer.Argument(help="The folder of the model as it was before training.")],
    finetuned: Annotated[list[Path], typer.Argument(help="The folder of the trained model; of several, their mean.")],
    out: Annotated[Path, typer.Option(help="The folder to write; it appears whole or not at all.")],
    weight: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of BASE.")] = 0.5,
    variant: Annotated[
        str | None,
        typer.Option(help='Which tensors are averaged: "internvideo_mm", "retrieval", "viclip"; the family\'s own.'),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Average a model with what it became by training (WiSE-FT), as the released evaluations do.

    Example: internvideo merge viclip-from-clip viclip-trained --weight 0.5 --out viclip-merged
    """
    quieten_transformers()
    from internvideo_hf.checkpoints import merge_checkpoints
    from internvideo_hf.demo.weights import resolve_demo_name

    averaged = merge_checkpoints(
        resolve_demo_name(base),
        [resolve_demo_name(folder) for folder in finetuned],
        out,
        weight=weight,
        variant=variant,
        overwrite=overwrite,
    )
    if not quiet:
        typer.echo(f"Wrote the average of {averaged} tensors to {out}; the others are those of {finetuned[0]}.")


def fuse(
    internvideo_mae: Annotated[str, typer.Argument(help="The folder of a VideoMAE classifier.")],
    uniformerv2: Annotated[str, typer.Argument(help="The folder of a UniFormerV2 classifier of the same classes.")],
    out: Annotated[Path, typer.Option(help="The folder to write; it appears whole or not at all.")],
    adapters_only: Annotated[
        bool, typer.Option("--adapters-only", help="Refer to the two folders, and leave out what is frozen.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Make one model of two classifiers, which attend to each other once they are trained to (InternVideo's CMA).

    At first its score is the mean of both, and `internvideo train internvideo/cma_k400 --start-from OUT` trains it.
    Frames, sizes and statistics stay those of each.

    Example: internvideo fuse vit-h-k400 uniformerv2-l-k400 --out internvideo-k400
    """
    internvideo_mae, uniformerv2 = known_model(internvideo_mae), known_model(uniformerv2)
    quieten_transformers()
    from internvideo_hf.checkpoints import fuse_encoders

    model = fuse_encoders(internvideo_mae, uniformerv2, out, adapters_only=adapters_only, overwrite=overwrite)
    if not quiet:
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        exchanges = ", ".join(map(str, model.config.exchange_layers))
        typer.echo(
            f"Wrote {out}: {model.config.num_labels} classes, exchanges behind the layers {exchanges} of the masked "
            f"encoder; {trained:,} of {model.num_parameters():,} parameters are to be trained."
        )


def _heads(classes: int) -> str:
    """What can be done about classes without names."""
    from internvideo_hf.recipes.labels import LABEL_SETS, load_labels

    fitting = [name for name in LABEL_SETS if len(load_labels(name)) == classes]
    return f"say --head {' or '.join(fitting)}" if fitting else "no list of as many is known"
