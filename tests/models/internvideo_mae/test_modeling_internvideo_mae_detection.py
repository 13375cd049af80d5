"""Action detection: scores of boxes, compared with pooling by hand, and what padding may not change."""

import pytest
import torch
from models.internvideo_mae.test_modeling_internvideo_mae import (
    CUBES,
    FIELDS_READ_ELSEWHERE,
    FRAMES,
    HEADS,
    LABELS,
    LAYERS,
    PATCH,
    SIDE,
    WIDTH,
    clips,
    tiny_config,
)
from models.model_checks import EITHER_HALF, ExportedInAnother, ModelChecks, Tower, draw, move_from_start

from internvideo_hf import InternVideoMAEForVideoActionDetection
from internvideo_hf.auto import auto_class
from internvideo_hf.models.internvideo_mae import modeling_internvideo_mae_detection as modeling
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae_detection import pad_boxes

BOXES = torch.tensor([[[2.0, 3, 20, 30], [10, 1, 31, 17], [0, 0, 5, 4]], [[5, 5, 6, 7], [8, 2, 30, 29], [9, 9, 9, 9]]])
MASK = torch.tensor([[True, True, True], [True, True, False]])


def detection_config(**changes):
    return tiny_config(use_mean_pooling=False, **changes)


def detector(**changes) -> InternVideoMAEForVideoActionDetection:
    torch.manual_seed(0)
    return move_from_start(InternVideoMAEForVideoActionDetection(detection_config(**changes)))


def labels_of(shape: tuple[int, ...] = (2, 3)) -> torch.Tensor:
    return (draw(*shape, LABELS) > 0).float()


class TestInternVideoMAEForVideoActionDetection(ExportedInAnother, ModelChecks):
    model_class = InternVideoMAEForVideoActionDetection
    auto_class = auto_class("AutoModelForVideoActionDetection")
    in_float32 = ("loss",)
    input_embeddings = "internvideo_mae.embeddings"
    frame_counts = ()
    fields_read_elsewhere = {key: why for key, why in FIELDS_READ_ELSEWHERE.items() if why != "the detector reads it"}
    loss_over = "samples"

    def config(self):
        return detection_config()

    def inputs(self):
        return {"pixel_values_videos": clips(), "boxes": BOXES, "box_mask": MASK, "labels": labels_of()}

    def towers(self, outputs):
        return [Tower(outputs, LAYERS, (2, CUBES, WIDTH), (2, HEADS, CUBES, CUBES))]

    @pytest.mark.parametrize("first", EITHER_HALF)
    @pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
    def test_a_device_map_may_put_any_half_on_another_device(self, first, monkeypatch):
        # Tensors without values cannot be checked for finite ones.
        monkeypatch.setattr(modeling, "check_boxes", lambda boxes, box_mask, batch: box_mask)
        super().test_a_device_map_may_put_any_half_on_another_device(first)


# The released numbers stand in the golden cases; these tests are of what those do not show.


@torch.no_grad()
def test_a_box_is_the_largest_value_of_the_map_below_it_and_a_linear_layer():
    model = detector()
    tokens = model.internvideo_mae(clips()).last_hidden_state
    maps = tokens.unflatten(1, (FRAMES // 2, SIDE // PATCH, SIDE // PATCH)).mean(dim=1)
    # With one sampling point in a cell, a box of a point is the value at that point, and 3, 2 is a cell of the map.
    point = torch.tensor([[[2.0, 3, 2, 3]]]).repeat(2, 1, 1) * PATCH
    model.box_pooler.size = 1
    model.box_pooler.sampling_ratio = 1
    # It is one cell large, and its middle half a cell further: the mean of four neighbors; the last row is repeated.
    expected = model.classifier(maps[:, [3, 3], 2:4].mean(dim=(1, 2)))
    torch.testing.assert_close(model(clips(), point).logits[:, 0], expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_padded_boxes_change_nothing_and_score_zero():
    model, labels = detector(), labels_of()
    whole = model(clips(), BOXES, MASK, labels=labels)
    assert (whole.logits[1, 2] == 0).all() and (whole.logits[MASK] != 0).all()
    boxes, mask = pad_boxes([BOXES[0], BOXES[1, :2]])
    assert torch.equal(mask, MASK) and torch.equal(boxes[mask], BOXES[MASK])
    wrong = torch.where(MASK[..., None], BOXES, torch.nan)
    other = model(clips(), wrong, MASK, labels=torch.where(MASK[..., None], labels, torch.nan))
    assert torch.equal(other.logits, whole.logits) and torch.equal(other.loss, whole.loss)
    rows = [model(clips()[i : i + 1], BOXES[i : i + 1, j : j + 1]).logits[0, 0] for i, j in MASK.nonzero().tolist()]
    torch.testing.assert_close(whole.logits[MASK], torch.stack(rows), atol=1e-6, rtol=1e-5)
