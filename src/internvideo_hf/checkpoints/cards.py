"""Model cards: the README.md beside the weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.models.common.sentence_transformers import has_modules
from internvideo_hf.utils.files import atomic_write, atomic_write_text
from internvideo_hf.utils.loader import MODULE

# Task of a pipeline of ours -> the Hub's tag nearest to it, where the Hub lists such models under another.
# None where a tag would promise a pipeline of transformers that gives other answers.
_HUB_TAGS = {
    "video-to-text": "video-text-to-text",
    "video-question-answering": "visual-question-answering",
    "video-action-detection": None,
    "video-short-term-anticipation": None,
}
# End of a class's name -> task of the pipeline that loads it.
_TASKS = {
    "ForVideoClassification": "video-classification",
    "ForOpenSetClassification": "video-classification",
    "ForConditionalGeneration": "video-to-text",
    "ForQuestionAnswering": "video-question-answering",
    "ForVideoActionDetection": "video-action-detection",
    "ForShortTermAnticipation": "video-short-term-anticipation",
}
DETECTOR = "PekingU/rtdetr_r50vd"
"""A detector of people and things, in examples."""
# Task -> what its pipeline takes beside the model.
_OPTIONS = dict.fromkeys(("video-action-detection", "video-short-term-anticipation"), f', detector="{DETECTOR}"')
# Task -> what a call of its pipeline takes beside the video.
_ARGUMENTS = {
    "zero-shot-video-classification": ', candidate_labels=["a dog", "a cat"]',
    "video-question-answering": ', question="what does the man do?"',
}
LOADING = (
    "The classes are in a package: `pip install internvideo-hf`. After `import internvideo_hf`, transformers' Auto "
    "classes and pipelines load this folder; without that import they do with `trust_remote_code=True`, which runs "
    f"`{MODULE}.py`, and that imports the installed package."
)
_ENCODER = (
    " It is a sentence-transformers model of texts and videos, too: `SentenceTransformer` loads it the same way."
)
# Family -> what of the model itself is ours, where there is no original to be equal to.
_READINGS = {
    "vslnet": "A head on features in the manner of VSLNet (arXiv 2004.13931), with words from a text tower. "
    "InternVideo released features for Ego4D's natural-language queries, but neither code nor weights of its head: "
    "this is a reading of VSLNet's paper, not a port. The predictor of start and end is a transformer, padding is not "
    "read, all videos weigh the same in the loss, and long videos re-sample the positions."
}


def write_card(
    folder: Path,
    title: str,
    *,
    family: str,
    provenance: str,
    pipeline_tag: str | None = None,
    base_models: Sequence[str] = (),
    facts: Sequence[str] = (),
    sections: Mapping[str, str | Sequence[str]] | None = None,
    stock: bool = False,
) -> None:
    """Write the model card of a folder.

    Args:
        folder: with the model, whose settings are there already.
        title: the heading.
        family: `model_type` of the model, a tag.
        provenance: where the weights come from, in a sentence or two.
        pipeline_tag: task of the pipeline that loads the folder; the card has the Hub's tag nearest to it.
        base_models: models on the Hub that this one is made of.
        facts: entries of a list below the provenance, such as source and license.
        sections: heading -> a paragraph, or the entries of a list.
        stock: whether transformers' own classes load the folder, without this package.
    """
    is_encoder = has_modules(folder)
    data = ModelCardData(
        library_name="transformers",
        tags=["internvideo_hf", "video", family, *(["sentence-transformers"] if is_encoder else [])],
        pipeline_tag=_HUB_TAGS.get(pipeline_tag or "", pipeline_tag),
        base_model=list(base_models) or None,
        license="other",
    )
    parts = [f"---\n{data.to_yaml()}\n---", f"# {title}", provenance]
    if facts:
        parts.append(_text(facts))
    reading = {"Model": _READINGS[family]} if family in _READINGS else {}
    loading = {} if stock else {"Loading": LOADING + (_ENCODER if is_encoder else "")}
    parts += [_section(heading, content) for heading, content in (reading | loading | dict(sections or {})).items()]
    atomic_write(folder / "README.md", ModelCard("\n\n".join(parts) + "\n").save)


def append_to_card(folder: Path, heading: str, content: str | Sequence[str]) -> None:
    """Append a section to the model card of a folder, which is created if missing.

    Args:
        folder: with the model.
        heading: of the section.
        content: a paragraph, or the entries of a list.
    """
    card = folder / "README.md"
    before = card.read_text(encoding="utf-8") if card.exists() else ""
    atomic_write_text(card, f"{before}\n{_section(heading, content)}\n")


def pipeline_tag(config: PreTrainedConfig, architecture: str) -> str | None:
    """Return the task of the pipeline that loads a model, or None if there is none.

    Args:
        config: of the model.
        architecture: name of its class.
    """
    for end, task in _TASKS.items():
        if architecture.endswith(end):
            return task
    return "zero-shot-video-classification" if getattr(config, "projection_dim", None) else None


def pipeline_snippet(task: str, stock: bool = False) -> str:
    """Return Markdown that shows a pipeline.

    Args:
        task: as `pipeline_tag` returns it.
        stock: whether transformers' own classes load the folder, without this package.
    """
    lines = [] if stock else ["import internvideo_hf"]
    lines += [
        "from transformers import pipeline",
        "",
        f'pipe = pipeline("{task}", "path/to/this/folder"{_OPTIONS.get(task, "")})  # or name on the Hub',
    ]
    return "\n".join(["```python", *lines, f'pipe("video.mp4"{_ARGUMENTS.get(task, "")})', "```"])


def _section(heading: str, content: str | Sequence[str]) -> str:
    return f"## {heading}\n\n{_text(content)}"


def _text(content: str | Sequence[str]) -> str:
    return content if isinstance(content, str) else "\n".join(f"- {entry}" for entry in content)
