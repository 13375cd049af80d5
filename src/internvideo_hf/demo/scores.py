"""Scores of a model on the drawn data set: `python -m internvideo_hf.demo.scores MODEL DATA`."""

import argparse
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMultimodalLM,
    AutoModelForVideoClassification,
    AutoModelForVisualQuestionAnswering,
    AutoProcessor,
    AutoVideoProcessor,
)

from internvideo_hf.demo.synthetic import (
    ACTIONS,
    ATTRIBUTES_LIST,
    BACKGROUNDS,
    COLORS,
    QUESTIONS,
    SHAPES,
    SIZES,
    SPLITS,
    Clip,
    canonical_caption,
)
from internvideo_hf.inference.embedder import embed_texts
from internvideo_hf.inference.ranking import retrieval_recalls
from internvideo_hf.inference.runner import embed_views
from internvideo_hf.models.common.loading import classes_of, load_strict
from internvideo_hf.utils.names import lookup
from internvideo_hf.utils.pretrained import load_pretrained
from internvideo_hf.video.reader import VideoReader

ATTRIBUTES: dict[str, Collection[str]] = {
    "action": ACTIONS,
    "color": COLORS,
    "background": BACKGROUNDS,
    "size": SIZES,
    "shape": SHAPES,
}
"""Attributes of captions, and the values of each."""
TOLD = tuple(name for name in ATTRIBUTES if name != "shape")
"""Attributes that the captions of the recipe demo/captioning tell."""

_WORDINGS: dict[str, dict[str, tuple[str, ...]]] = {
    attribute: {name: (name, *getattr(values[name], "other_words", ())) for name in values}
    for attribute, values in (
        ("action", ACTIONS),
        ("color", dict.fromkeys(COLORS)),
        ("background", dict.fromkeys(BACKGROUNDS)),
        ("size", SIZES),
        ("shape", dict.fromkeys(SHAPES)),
    )
}
"""Attribute -> value -> its wordings in captions."""

_AT_ONCE = 40  # clips or texts


def demo_scores(model: str | Path, data_root: str | Path, split: str = "test") -> dict[str, dict[str, float]]:
    """Score a saved model, in percent.

    Dual encoder: `text_to_video` and `video_to_text`, R@1 among all clips and captions of the split; and for each of
    `ATTRIBUTES` the accuracy of choosing the clip's caption among those that differ from it in this attribute only.
    Model of captions: for each of `TOLD`, how often the words for it in the best caption by greedy search are
    right; see `attributes_in`. Model of answers: the accuracy for each of `QUESTIONS`. Classifier: `action`, its
    accuracy.

    Args:
        model: a folder with a model and its processor.
        data_root: the folder of the data set, as `make_data_set` writes it.
        split: one of `internvideo_hf.demo.synthetic.SPLITS`.

    Returns:
        `{"clips": scores, "first frame": scores}`; the latter for clips that repeat their first frame, which shows no
        action.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if the split is unknown, or the model lacks weights.
    """
    lookup(dict.fromkeys(SPLITS), split, "split")
    clips = _clips(Path(data_root), split)
    paths = [str(Path(data_root) / clip.video) for clip in clips]
    name = (load_pretrained(AutoConfig, model).architectures or [""])[0]
    auto_class, score = next((kind for end, kind in _KINDS.items() if name.endswith(end)), (AutoModel, _by_similarity))
    loaded = load_strict(auto_class, model).eval()
    has_text = score is not _by_class
    processor = load_pretrained(AutoProcessor if has_text else AutoVideoProcessor, model)
    videos = processor.video_processor if has_text else processor
    views: dict[str, Callable[[str], Any]] = {
        "clips": lambda path: path,
        "first frame": lambda path: np.repeat(_first_frame(path), videos.num_frames, axis=0),
    }
    scores = {}
    for kind, view in views.items():
        pixels = (
            videos([view(path) for path in part], return_tensors="pt")["pixel_values_videos"] for part in _parts(paths)
        )
        with torch.no_grad():
            scores[kind] = score(loaded, processor, clips, pixels)
    return scores


def attributes_in(caption: str) -> dict[str, str | None]:
    """Return what a caption says of each of `ATTRIBUTES`: the value whose name or synonym it holds.

    Args:
        caption: of a drawn clip.

    Returns:
        Attribute -> its value; None where the caption names none, or several.
    """
    found = {
        attribute: [value for value, words in values.items() if any(f" {word} " in f" {caption} " for word in words)]
        for attribute, values in _WORDINGS.items()
    }
    return {attribute: values[0] if len(values) == 1 else None for attribute, values in found.items()}


def _by_class(model: Any, processor: Any, clips: Sequence[Clip], pixels: Iterator[torch.Tensor]) -> dict[str, float]:
    best = torch.cat([model(pixel_values_videos=part).logits.argmax(dim=-1) for part in pixels])
    labels = torch.tensor([clip.label for clip in clips])
    return {"action": 100 * (best == labels).double().mean().item()}


def _by_caption(model: Any, processor: Any, clips: Sequence[Clip], pixels: Iterator[torch.Tensor]) -> dict[str, float]:
    said = [attributes_in(processor.decode_text(ids)) for part in pixels for ids in model.generate(part)]
    return {name: _accuracy(clips, name, [words[name] for words in said]) for name in TOLD}


def _by_answer(model: Any, processor: Any, clips: Sequence[Clip], pixels: Iterator[torch.Tensor]) -> dict[str, float]:
    answers = classes_of(model.config)
    ids = processor.encode_questions([wordings[0] for wordings in QUESTIONS.values()])["input_ids"]
    best = [model(clip[None], ids).logits.argmax(dim=-1).tolist() for part in pixels for clip in part]
    return {
        name: _accuracy(clips, name, [answers[row[place]] for row in best]) for place, name in enumerate(QUESTIONS)
    }


def _accuracy(clips: Sequence[Clip], attribute: str, found: Sequence[str | None]) -> float:
    """Return how many clips are right of those that have the attribute, in percent."""
    pairs = [(getattr(clip, attribute), value) for clip, value in zip(clips, found, strict=True)]
    return 100 * float(np.mean([truth == value for truth, value in pairs if truth is not None]))


def _by_similarity(
    model: Any, processor: Any, clips: Sequence[Clip], pixels: Iterator[torch.Tensor]
) -> dict[str, float]:
    video = torch.cat([embed_views(model, part[:, None])[:, 0] for part in pixels]).numpy()
    questions = {name: [_alternatives(clip, name) for clip in clips] for name in ATTRIBUTES}
    captions = [canonical_caption(clip) for clip in clips]
    texts = list(dict.fromkeys(captions + [text for lists in questions.values() for some in lists for text in some]))
    embedded = dict(zip(texts, embed_texts(model, processor, texts).numpy(), strict=True))
    similarity = np.stack([embedded[caption] for caption in captions]) @ video.T
    partners = [[index] for index in range(len(clips))]
    scores = {
        "text_to_video": retrieval_recalls(similarity, partners)["R@1"],
        "video_to_text": retrieval_recalls(similarity.T, partners)["R@1"],
    }
    for name, lists in questions.items():
        right = [
            texts[int(np.argmax([embedded[text] @ vector for text in texts]))] == caption
            for texts, vector, caption in zip(lists, video, captions, strict=True)
            if texts
        ]
        scores[name] = 100 * float(np.mean(right))
    return scores


# End of a class's name -> its Auto class and its scores; a dual encoder otherwise.
_KINDS: dict[str, tuple[Any, Callable[..., dict[str, float]]]] = {
    "ForVideoClassification": (AutoModelForVideoClassification, _by_class),
    "ForConditionalGeneration": (AutoModelForMultimodalLM, _by_caption),
    "ForQuestionAnswering": (AutoModelForVisualQuestionAnswering, _by_answer),
}


def _alternatives(clip: Clip, name: str) -> list[str]:
    """Return a clip's caption with each value of one attribute; empty if the clip lacks the attribute."""
    if getattr(clip, name) is None:
        return []
    changes: list[dict[str, Any]] = [{name: word} for word in ATTRIBUTES[name]]
    return [canonical_caption(replace(clip, **change)) for change in changes]


def _parts(items: Sequence[Any]) -> Iterator[list[Any]]:
    return (list(items[start : start + _AT_ONCE]) for start in range(0, len(items), _AT_ONCE))


def _first_frame(path: str) -> np.ndarray:
    with VideoReader(path) as reader:
        return reader.read([0])


def _clips(data_root: Path, split: str) -> list[Clip]:
    names = [entry.name for entry in fields(Clip)]
    lines = (data_root / ATTRIBUTES_LIST).read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == split]
    return [Clip(**{name: row[name] for name in names}) for row in rows]


def main() -> None:
    """Print the scores of a model as a table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("model", help="the folder of a model")
    parser.add_argument("data_root", help="the folder of the data set")
    parser.add_argument("--split", default="test", choices=SPLITS)
    options = parser.parse_args()
    if not (Path(options.model) / "config.json").is_file():
        parser.error(f"{options.model} is not a model folder: it holds no config.json.")
    if not (Path(options.data_root) / ATTRIBUTES_LIST).is_file():
        parser.error(
            f"{options.data_root} holds no {ATTRIBUTES_LIST}. Make a data set with `internvideo make-demo-data`."
        )
    for kind, scores in demo_scores(options.model, options.data_root, options.split).items():
        print(f"{options.split}, {kind}: " + ", ".join(f"{name} {value:.1f}" for name, value in scores.items()))


if __name__ == "__main__":
    main()
