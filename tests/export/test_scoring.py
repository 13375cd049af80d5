"""Scores before and after an export."""

import pytest
import torch
from torch import nn
from transformers import AutoProcessor, AutoVideoProcessor

from internvideo_hf import InternVideoMAEForVideoClassification, InternVideoMAEModel, InternVideoMMModel
from internvideo_hf.data.records import ManifestError
from internvideo_hf.export.functions import Traceable
from internvideo_hf.export.scoring import read_samples, score
from internvideo_hf.models.common.exported.graphs import Graph
from internvideo_hf.models.common.exported.manifest import Score
from internvideo_hf.recipes.reading import RecipeError


class Constant(nn.Module):
    """Give each input of a batch the same rows, whatever it holds."""

    def __init__(self, *rows):
        super().__init__()
        self.rows = iter(rows)

    def forward(self, *inputs):
        return (torch.tensor(next(self.rows)),)


@pytest.fixture
def footage(bikes, tmp_path):
    """Return a folder with three lengths of one video, and one that cannot be read."""
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.mp4").symlink_to(bikes)
    (tmp_path / "noise.mp4").write_bytes(b"noise")
    return tmp_path


def function_of(name, rows, output):
    return Traceable(name, Constant(*rows), {}, (output,))


def graph_of(name, rows, output):
    left = iter(rows)
    function = function_of(name, (), output)
    graph = Graph(name, function, None)
    graph.__class__ = type("Fixed", (Graph,), {"__call__": lambda self, inputs: {output: torch.tensor(next(left))}})
    return graph


def test_top_1_of_a_classifier_before_and_after(mae_folder, footage):
    model = InternVideoMAEForVideoClassification.from_pretrained(mae_folder)
    processor = AutoVideoProcessor.from_pretrained(mae_folder)
    rows = "".join(f"{name}.mp4,{label}\n" for name, label in (("a", 0), ("noise", 0), ("b", 1), ("c", 2)))
    (footage / "val.csv").write_text("video,label\n" + rows)
    samples = read_samples(footage / "val.csv", model, "classifier", mae_folder)
    before, after = ([[5.0, 1.0, 0.0]], [[0.0, 1.0, 0.5]], [[0.0, 1.0, 2.0]]), ([[5.0, 1.0, 0.0]],) * 3
    functions, graphs = (
        {"video": kind("video", rows, "logits")} for kind, rows in ((function_of, before), (graph_of, after))
    )
    told = []
    assert score(samples, functions, graphs, processor, None, told.append) == {
        "top-1": Score(100.0, pytest.approx(100 / 3), 3)
    }
    assert len(told) == 1 and "noise.mp4" in told[0]


def test_recall_of_a_dual_encoder_before_and_after(small_folder, footage):
    model, processor = InternVideoMMModel.from_pretrained(small_folder), AutoProcessor.from_pretrained(small_folder)
    rows = "".join(f"{name}.mp4,{text}\n" for name, text in (("a", "a dog"), ("b", "a cat"), ("noise", "rain")))
    (footage / "val.csv").write_text("video,caption\n" + rows + "a.mp4,a bike\n")
    samples = read_samples(footage / "val.csv", model, "dual_encoder", small_folder)
    videos = ([[2.0, 0.0]], [[0.0, 3.0]])
    # In torch all three captions find their video; after, "a dog" finds b, and a still finds "a bike".
    texts = {"before": [[9.0, 1.0], [0.0, 1.0], [1.0, 0.0]], "after": [[1.0, 9.0], [0.0, 1.0], [1.0, 0.0]]}
    functions, graphs = (
        {"video": kind("video", videos, "pooler_output"), "text": kind("text", (texts[when],), "pooler_output")}
        for kind, when in ((function_of, "before"), (graph_of, "after"))
    )
    assert score(samples, functions, graphs, processor.video_processor, processor) == {
        "text to video R@1": Score(100.0, pytest.approx(200 / 3), 2),
        "video to text R@1": Score(100.0, 100.0, 2),
    }


def test_lists_that_give_no_score_are_refused(mae_folder, small_folder, footage):
    classifier, encoder = (
        kind.from_pretrained(mae_folder) for kind in (InternVideoMAEForVideoClassification, InternVideoMAEModel)
    )
    dual = InternVideoMMModel.from_pretrained(small_folder)
    (footage / "val.csv").write_text("video,label\na.mp4,400\n")
    with pytest.raises(ManifestError, match="the label is 400, expected 0 to 399"):
        read_samples(footage / "val.csv", classifier, "classifier", mae_folder)
    with pytest.raises(ValueError, match="Leave out --evaluate"):
        read_samples(footage / "val.csv", encoder, "encoder", mae_folder)
    with pytest.raises(RecipeError, match="without a caption"):
        read_samples(footage / "val.csv", dual, "dual_encoder", small_folder)
    with pytest.raises(ManifestError, match="missing"):
        read_samples(footage / "missing.csv", classifier, "classifier", mae_folder)
