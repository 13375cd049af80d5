"""Scores of a model on the drawn data set: `python -m internvideo_hf.demo.scores MODEL DATA`."""

import argparse
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, AutoProcessor, AutoVideoProcessor

from internvideo_hf.demo.synthetic import (
    ACTIONS,
    ATTRIBUTES_LIST,
    BACKGROUNDS,
    COLORS,
    SHAPES,
    SIZES,
    SPLITS,
    Clip,
    canonical_caption,
)
from internvideo_hf.inference.embedder import embed_texts
from internvideo_hf.inference.ranking import retrieval_recalls
from internvideo_hf.inference.runner import embed_views
from internvideo_hf.models.common.loading import load_strict
from internvideo_hf.utils.names import lookup
from internvideo_hf.utils.pretrained import load_pretrained
from internvideo_hf.video.reader import VideoReader

ATTRIBUTES: dict[str, Collection[str]] = {
    "action": ACTIONS,
    "colour": COLORS,
    "background": BACKGROUNDS,
    "size": SIZES,
    "shape": SHAPES,
}
"""Attributes of captions, and the values of each."""

_AT_ONCE = 40  # clips or texts


def demo_scores(model: str | Path, data_root: str | Path, split: str = "test") -> dict[str, dict[str, float]]:
    """Score a saved model, in percent.

    Dual encoder: `text_to_video` and `video_to_text`, R@1 among all clips and captions of the split; and for each of
    `ATTRIBUTES` the accuracy of choosing the clip's caption among those that differ from it in this attribute only.
    Classifier: `action`, its accuracy.

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
    is_classifier = (load_pretrained(AutoConfig, model).architectures or [""])[0].endswith("ForVideoClassification")
    if is_classifier:
        loaded = load_strict(AutoModelForVideoClassification, model).eval()
        processor = videos = load_pretrained(AutoVideoProcessor, model)
    else:
        loaded = load_strict(AutoModel, model).eval()
        processor = load_pretrained(AutoProcessor, model)
        videos = processor.video_processor
    kinds: dict[str, Callable[[str], Any]] = {
        "clips": lambda path: path,
        "first frame": lambda path: np.repeat(_first_frame(path), videos.num_frames, axis=0),
    }
    scores = {}
    for name, view in kinds.items():
        pixels = (
            videos([view(path) for path in part], return_tensors="pt")["pixel_values_videos"] for part in _parts(paths)
        )
        if is_classifier:
            with torch.no_grad():
                best = torch.cat([loaded(pixel_values_videos=part).logits.argmax(dim=-1) for part in pixels])
            labels = torch.tensor([clip.label for clip in clips])
            scores[name] = {"action": 100 * (best == labels).double().mean().item()}
        else:
            scores[name] = _dual_encoder_scores(loaded, processor, clips, pixels)
    return scores


def _dual_encoder_scores(
    model: Any, processor: Any, clips: Sequence[Clip], pixels: Iterator[torch.Tensor]
) -> dict[str, float]:
    with torch.no_grad():
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
