"""Commands that write and publish model folders: `convert`, `released`, `merge`, `fuse`, `push`."""

from pathlib import Path
from typing import Annotated

import typer

from internvideo_hf.cli.completion import released_names
from internvideo_hf.cli.options import AsJson, Quiet, read_json, resolve_model
from internvideo_hf.cli.reporting import print_json, say, silence_transformers
from internvideo_hf.utils.names import lookup, printable


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Released file (.ckpt, .pth, .bin, .safetensors).")],
    output: Annotated[Path, typer.Argument(help="Folder to write; it appears only when complete.")],
    config: Annotated[
        Path | None,
        typer.Option(help="JSON file of configuration values that no tensor shape gives, nested as in config.json."),
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="Data set of the head's classes, such as k400; a K710 head is reduced to it.")
    ] = None,
    data_set: Annotated[
        str | None, typer.Option(help="Data set of a retrieval fine-tune, such as msrvtt, whose frames are saved.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help='"action_detection" for a file whose head scores boxes; needless for 80 actions, as of AVA.'
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option(help='"transformers-videomae" exports to transformers\' own VideoMAE classes.')
    ] = None,
    part: Annotated[
        str,
        typer.Option(help='InternVideo-MM: "full", or "towers" without the caption decoder and the head of answers.'),
    ] = "full",
    answers: Annotated[
        Path | None,
        typer.Option(help="Answers of a question-answering file: JSON {answer: number}, or text with one a line."),
    ] = None,
    processor: Annotated[
        str | None, typer.Option(help='ViCLIP only: processor to save: "training", "demo", "training_antialias".')
    ] = None,
    dtype: Annotated[str, typer.Option(help="Stored dtype: float32, float16 or bfloat16.")] = "float32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT if it exists.")] = False,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Allow pickled code in the file to run. Only for files you trust.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Convert a released checkpoint into a folder that from_pretrained loads.

    Family and sizes are recognized from the tensors; every tensor is either used or listed as left out.

    InternVideo-MM keeps its caption decoder, if the file holds it; every command that takes a model of video and text
    takes the folder all the same. The answers of a question-answering file are in the list that it was trained on,
    which its read-me takes from All-in-one (https://github.com/showlab/all-in-one): msrvtt_train_ans2label.json,
    msvd_answer_set.txt or frameqa_trainval_ans2label.json.

    Example: internvideo convert InternVideo-MM-L-14.ckpt internvideo-mm-l14

    Example: internvideo convert msrvtt.ckpt internvideo-mm-l14-msrvtt-qa --answers msrvtt_train_ans2label.json
    """
    overrides = read_json(config) if config is not None else {}
    silence_transformers()
    from internvideo_hf.checkpoints import convert_checkpoint

    report = convert_checkpoint(
        checkpoint,
        output,
        config_overrides=overrides,
        head=head,
        data_set=data_set,
        task=task,
        to=to,
        part=part,
        answers=answers,
        processor=processor,
        dtype=dtype,
        trust_pickle=trust_pickle,
        overwrite=overwrite,
    )
    if quiet:
        return
    say(f"{checkpoint}: recognized as {report.family}.")
    if report.head is not None:
        say(f"Its classes are those of {report.head}.")
    elif report.num_labels is not None:
        say(f"Its {report.num_labels} classes are named by their numbers: {_head_advice(report.num_labels)}.")
    if report.num_answers is not None:
        say(_about_answers(report.num_answers, answers))
    for name, reason in report.left_out.items():
        say(f"left out  {printable(name)}  ({reason})")
    say(
        f"Wrote {report.num_tensors} tensors ({report.num_parameters:,} parameters, {dtype}) to {output}; "
        f"{len(report.left_out)} tensors of the file were left out."
    )


def released(
    name: Annotated[
        str | None,
        typer.Argument(help="Released model to fetch, such as InternVideo-MM-L-14.", autocompletion=released_names),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--from", help="Its released file, if you have it: nothing is downloaded.")
    ] = None,
    family: Annotated[str | None, typer.Option(help="List this family only, such as viclip.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the released models, or download and convert one into the cache, and print its folder.

    Every command and function that takes a model takes these names, too, and does the same at first use.

    Example: internvideo released ViCLIP-L-14-InternVid-10M-FLT
    """
    from internvideo_hf.checkpoints.model_names import converted_folder
    from internvideo_hf.checkpoints.model_names import released as fetch
    from internvideo_hf.checkpoints.released import published, released_rows

    if name is not None:
        silence_transformers()
        say(fetch(name, file))
        return
    if file is not None:
        raise ValueError("--from needs the name of the model: internvideo released NAME --from FILE.")
    rows = released_rows()
    if family is not None:
        families = {row["family"]: [row for row in rows if row["family"] == family] for row in rows}
        rows = tuple(lookup(families, family, "--family"))
    if as_json:
        facts = ("name", "family", "file", "address", "licence", "note")
        entries = [{key: row[key] for key in facts} | {"test": published(row)} for row in rows]
        print_json(entries)
        return
    for row in rows:
        cached = "converted" if converted_folder(row).is_dir() else ""
        say(f"{row['name']:50} {row['family']:16} {cached:9} {published(row) or ''}".rstrip())


def _head_advice(classes: int) -> str:
    from internvideo_hf.recipes.labels import LABEL_SETS, SETS_OF_BOXES, load_labels

    fitting = [name for name in LABEL_SETS if name not in SETS_OF_BOXES and len(load_labels(name)) == classes]
    return f"add --head {' or '.join(fitting)}" if fitting else "no known label set has this many"


def _about_answers(classes: int, answers: Path | None) -> str:
    if answers is not None:
        from internvideo_hf.data.answers import BACKGROUND, read_answers

        surplus = classes - len(read_answers(answers))
        return f"Its answers are those of {answers}{f', and one class for none ({BACKGROUND})' if surplus else ''}."
    return (
        f"Its {classes} answers are named by their numbers: add --answers FILE, the list that it was trained on, such "
        "as msrvtt_train_ans2label.json of All-in-one's data preparation (https://github.com/showlab/all-in-one)."
    )


def merge(
    base: Annotated[Path, typer.Argument(help="Folder of the model before training.")],
    finetuned: Annotated[list[Path], typer.Argument(help="Folder of the trained model; several are averaged first.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it appears only when complete.")],
    weight: Annotated[float, typer.Option(min=0.0, max=1.0, help="Weight of BASE in the average.")] = 0.5,
    variant: Annotated[
        str | None,
        typer.Option(help='Tensors to average: "internvideo_mm", "retrieval" or "viclip" (default: by family).'),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
    quiet: Quiet = False,
) -> None:
    """Average a model's weights before and after training (WiSE-FT), as the released evaluations do.

    Example: internvideo merge viclip-from-clip viclip-trained --weight 0.5 --out viclip-merged
    """
    silence_transformers()
    from internvideo_hf.checkpoints import merge_checkpoints

    averaged = merge_checkpoints(
        base,
        finetuned,
        out,
        weight=weight,
        variant=variant,
        overwrite=overwrite,
    )
    if not quiet:
        say(f"Wrote {out}: the average of {averaged} tensors; the other tensors are those of {finetuned[0]}.")


def fuse(
    internvideo_mae: Annotated[str, typer.Argument(help="Folder of a VideoMAE classifier.")],
    uniformerv2: Annotated[str, typer.Argument(help="Folder of a UniFormerV2 classifier with the same classes.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it appears only when complete.")],
    adapters_only: Annotated[
        bool, typer.Option("--adapters-only", help="Leave out frozen weights; OUT refers to the two folders instead.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
    quiet: Quiet = False,
) -> None:
    """Fuse two classifiers into one model with cross-model attention (InternVideo's CMA).

    Before training it averages the scores of both; train it with `internvideo train internvideo/cma_k400 --start-from
    OUT`. Each encoder keeps its own frames, sizes and statistics.

    Example: internvideo fuse vit-h-k400 uniformerv2-l-k400 --out internvideo-k400
    """
    internvideo_mae, uniformerv2 = resolve_model(internvideo_mae), resolve_model(uniformerv2)
    silence_transformers()
    from internvideo_hf.checkpoints import fuse_encoders

    model = fuse_encoders(internvideo_mae, uniformerv2, out, adapters_only=adapters_only, overwrite=overwrite)
    if not quiet:
        trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        layers = ", ".join(map(str, model.config.exchange_layers or ()))
        say(
            f"Wrote {out}: {model.config.num_labels} classes, cross-model attention after layers {layers} of the "
            f"masked encoder; {trainable:,} of {model.num_parameters():,} parameters are trainable."
        )


def push(
    folder: Annotated[Path, typer.Argument(help="Folder of a model, with its card (README.md).")],
    name: Annotated[str, typer.Argument(help="Repository on the Hub, owner/name; created if it is missing.")],
    private: Annotated[bool, typer.Option("--private", help="Create the repository for yourself alone.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch to commit to (default: the main one).")] = None,
    message: Annotated[str | None, typer.Option(help="Message of the commit.")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead.")] = False,
    quiet: Quiet = False,
) -> None:
    """Publish a model's folder on the Hub in one commit, with its card, which must name license and tags.

    Logs and the state of training stay behind, and are listed. Log in first: `hf auth login`, or HF_TOKEN.

    Example: internvideo push vit-b-k400 you/vit-b-k400 --private
    """
    silence_transformers()
    from internvideo_hf.checkpoints.publishing import push_folder

    done = push_folder(folder, name, private=private, revision=revision, message=message, create_pr=create_pr)
    if quiet:
        return
    for file, reason in done.left_out.items():
        say(f"left out  {printable(file)}  ({reason})")
    say(f"Published {len(done.files)} files of {folder}: {done.address}")
