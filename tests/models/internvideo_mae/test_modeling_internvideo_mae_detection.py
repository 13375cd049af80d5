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
from peft import LoraConfig, get_peft_model
from torch import nn

from internvideo_hf import (
    InternVideoMAEForPreTraining,
    InternVideoMAEForVideoActionDetection,
    InternVideoMAEForVideoClassification,
)
from internvideo_hf.auto import auto_class
from internvideo_hf.models.internvideo_mae import modeling_internvideo_mae_detection as modeling
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae_detection import pad_boxes
from internvideo_hf.training.parameter_groups import parameter_groups

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
    wrong_size = None

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


class TestWithTheHeadOfAcar(TestInternVideoMAEForVideoActionDetection):
    """And with padding that is hidden."""

    def config(self):
        return detection_config(detection_head="acar")

    def model(self, **options):
        model = super().model(**options)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return model

    def inputs(self):
        mask = torch.ones(2, SIDE, SIDE, dtype=torch.bool)
        mask[1, :, 24:] = False
        return super().inputs() | {"pixel_mask": mask}

    def with_pixels(self, pixels):
        return {key: value for key, value in super().with_pixels(pixels).items() if key != "pixel_mask"}

    # The context of a clip's boxes is as large as the number of its boxes, which no graph can follow.
    test_whole_graph_compiles_for_any_number_of_frames = None
    test_exported_program_takes_other_batches_and_frame_counts = None
    test_a_device_map_may_put_any_half_on_another_device = None


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


HEADS_OF_BOXES = pytest.mark.parametrize("head", ["linear", "acar"])


@torch.no_grad()
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@HEADS_OF_BOXES
def test_padding_that_is_masked_changes_nothing(head, attention):
    model = detector(detection_head=head)
    model.set_attn_implementation(attention)
    small = draw(1, FRAMES, 3, 24, 32)
    boxes = torch.tensor([[[1.0, 2, 30, 23], [17, 15, 31, 23]]])
    alone = model(small, boxes).logits
    # The lower third of the last row of patches is padding, and the row below that, and a column.
    padded = nn.functional.pad(small[:, :, :, :21], (0, 8, 0, 11), value=3.0)
    mask = torch.zeros(1, 32, 40, dtype=torch.bool)
    mask[:, :21, :32] = True
    together = torch.cat([draw(1, FRAMES, 3, 32, 40, seed=1), padded])
    both = torch.cat([torch.ones_like(mask), mask])
    found = model(together, boxes.expand(2, -1, -1), pixel_mask=both).logits
    # Alone, the same clip ends in its own padding, of the rows that its patches need.
    small[:, :, :, 21:] = 3.0
    cut = mask[:, :24, :32]
    torch.testing.assert_close(found[1:], model(small, boxes, pixel_mask=cut).logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:1], model(together[:1], boxes).logits, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found[1:], model(together, boxes.expand(2, -1, -1)).logits[1:], atol=1e-3)
    assert not torch.allclose(alone, found[1:], atol=1e-3)


@torch.no_grad()
def test_released_models_look_at_padding():
    model, mask = detector(attend_to_padding=True), torch.ones(2, SIDE, SIDE, dtype=torch.bool)
    mask[:, 16:] = False
    assert torch.equal(model(clips(), BOXES, pixel_mask=mask).logits, model(clips(), BOXES).logits)


@torch.no_grad()
@HEADS_OF_BOXES
def test_boxes_of_a_clip_score_alike_in_any_batch(head):
    model = detector(detection_head=head)
    boxes, mask = pad_boxes([BOXES[0], torch.zeros(0, 4), BOXES[1, :1]])
    found = model(clips(3), boxes, mask).logits
    assert found.shape == (3, 3, LABELS) and (found[~mask] == 0).all()
    for number, own in ((0, BOXES[:1]), (2, BOXES[1:, :1])):
        expected = model(clips(3)[number : number + 1], own).logits[0]
        torch.testing.assert_close(found[number, : own.shape[1]], expected, atol=1e-5, rtol=1e-5)
    assert model(clips(1), torch.zeros(1, 0, 4)).logits.shape == (1, 0, LABELS)


@HEADS_OF_BOXES
def test_a_batch_without_boxes_has_a_loss_of_zero_that_reaches_every_parameter(head):
    model = detector(detection_head=head).train()
    for boxes, mask in ((torch.zeros(2, 0, 4), None), (BOXES, torch.zeros_like(MASK))):
        model.zero_grad()
        loss = model(clips(), boxes, mask, labels=labels_of(boxes.shape[:2])).loss
        loss.backward()
        assert loss == 0
        assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_the_loss_is_the_mean_over_actions_times_the_number_of_boxes():
    model, labels = detector(), labels_of()
    found = model(clips(), BOXES, MASK, labels=labels)
    entries = nn.functional.binary_cross_entropy(found.logits[MASK].sigmoid(), labels[MASK], reduction="none")
    torch.testing.assert_close(found.loss, entries.mean() * 5)


@torch.no_grad()
def test_boxes_beyond_the_frame_end_at_its_border():
    model = detector()
    beyond = torch.tensor([[[-500.0, -3, 20, 1e9], [40, 50, 60, 70], [20, 20, 4, 4]]]).expand(2, -1, -1)
    inside = torch.tensor([[[0.0, 0, 20, 32], [32, 32, 32, 32], [20, 20, 4, 4]]]).expand(2, -1, -1)
    found = model(clips(), beyond).logits
    assert torch.equal(found, model(clips(), inside).logits) and found.isfinite().all()
    # Of no area: the cells from where it begins.
    point = torch.tensor([[[20.0, 20, 20, 20]]]).expand(2, -1, -1)
    torch.testing.assert_close(found[:, 2:], model(clips(), point).logits)


@torch.no_grad()
@HEADS_OF_BOXES
def test_more_than_a_thousand_boxes_score_as_they_do_alone(head):
    model, many = (
        detector(detection_head=head),
        torch.rand(1, 1100, 4, generator=torch.Generator().manual_seed(0)) * SIDE,
    )
    found = model(clips(1), many).logits
    assert found.shape == (1, 1100, LABELS) and found.isfinite().all()
    if head == "linear":  # ACAR's relates all boxes of a clip
        torch.testing.assert_close(
            found[:, 1000:1003], model(clips(1), many[:, 1000:1003]).logits, atol=1e-5, rtol=1e-5
        )


@torch.no_grad()
def test_the_scale_of_boxes_is_that_of_patches_unless_it_is_set():
    patches, released = detector(), detector(roi_scale=1 / 16)
    # Boxes twice as large are the same at half the scale.
    expected = patches(clips(), BOXES / 2).logits
    torch.testing.assert_close(released(clips(), BOXES).logits, expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_any_height_and_width_are_taken():
    model, frames = detector(), draw(1, FRAMES, 3, 21, 60)
    boxes = torch.tensor([[[2.0, 3.0, 30.0, 14.0], [8.0, 0.0, 56.0, 16.0]]])
    # As the released convolution, which has no patch for the last pixels.
    expected = model(frames[..., :16, :56], boxes).logits
    assert expected.shape == (1, 2, LABELS)
    torch.testing.assert_close(model(frames, boxes).logits, expected, rtol=0, atol=0)
    mask = torch.ones(1, 21, 60, dtype=torch.bool)
    torch.testing.assert_close(model(frames, boxes, pixel_mask=mask).logits, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="The height, 5, is not a multiple of the patch size 8"):
        model(frames[..., :5, :], boxes)
    with pytest.raises(ValueError, match="2 x 7 patches, expected 3 x 3 or more for detection_head='acar'"):
        detector(detection_head="acar")(draw(1, FRAMES, 3, 16, 56), BOXES[:1])


@pytest.mark.parametrize("changes", [{"detection_head": "ACAR"}, {"roi_size": 0}])
def test_settings_of_a_loaded_model_are_checked(tmp_path, changes):
    detector().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"{next(iter(changes))}=.* must be"):
        InternVideoMAEForVideoActionDetection.from_pretrained(tmp_path, **changes)


NAN = BOXES.clone()
NAN[1, 0, 2] = torch.nan


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"boxes": BOXES[:1]}, r"\(1, 3, 4\), expected \(2, boxes, 4\)"),
        ({"boxes": BOXES[..., :3]}, r"expected \(2, boxes, 4\): left, top, right, bottom"),
        ({"boxes": list(BOXES)}, "got a list, expected one tensor.*pad_boxes"),
        ({"boxes": NAN}, "box 0 of clip 1 is .*nan.*, expected finite numbers"),
        ({"boxes": BOXES * torch.inf}, "box 0 of clip 0 .*expected finite numbers"),
        ({"box_mask": MASK[:, :2]}, r"box_mask has the shape \(2, 2\), expected \(2, 3\)"),
        ({"labels": labels_of()[:, :2]}, r"labels has the shape \(2, 2, 5\), expected \(2, 3, 5\)"),
        ({"pixel_mask": torch.ones(2, 8, 8)}, r"pixel_mask has the shape \(2, 8, 8\), expected \(2, 32, 32\)"),
        ({"pixel_mask": torch.ones(2, SIDE, SIDE).tril()}, "one rectangle of True in the upper left corner"),
        ({"pixel_mask": torch.zeros(2, SIDE, SIDE)}, "one rectangle of True"),
    ],
)
def test_wrong_boxes_and_masks_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        detector()(**{"pixel_values_videos": clips(), "boxes": BOXES, "box_mask": MASK} | changes)


@pytest.mark.parametrize(
    ("boxes", "words"), [([], "got no clips"), ([torch.zeros(4)], r"shape \(4,\), expected \(boxes, 4\)")]
)
def test_boxes_that_cannot_be_padded_are_named(boxes, words):
    with pytest.raises(ValueError, match=words):
        pad_boxes(boxes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_mean_pooling": True}, "pass use_mean_pooling=False"),
        ({"problem_type": "single_label_classification"}, "expected 'multi_label_classification'"),
    ],
)
def test_settings_of_other_heads_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        InternVideoMAEForVideoActionDetection(tiny_config(**{"use_mean_pooling": False} | changes))


@HEADS_OF_BOXES
def test_heads_begin_at_their_full_size(head):
    torch.manual_seed(0)
    model = InternVideoMAEForVideoActionDetection(detection_config(detection_head=head, num_labels=400))
    linear = model.classifier if head == "linear" else model.classifier.output
    assert linear.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert head == "acar" or not linear.bias.any()


def test_groups_of_layers_are_frozen_decayed_and_adapted_like_those_of_a_classifier():
    model = detector()
    groups = model.layer_groups()
    assert list(groups) == ["embeddings", *(f"layers.{number}" for number in range(LAYERS)), "head"]
    assert "internvideo_mae.layernorm.weight" in groups["head"] and "classifier.weight" in groups["head"]
    model.freeze_backbone()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == set(groups["head"])
    rates = {group["lr_scale"] for group in parameter_groups(detector(), 1.0, 0.05, layer_decay=0.5)}
    assert rates == {0.5**power for power in range(LAYERS + 2)}
    adapted = get_peft_model(
        detector(), LoraConfig(target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"])
    )
    found = adapted(pixel_values_videos=clips(), boxes=BOXES, labels=labels_of())
    found.loss.backward()
    assert adapted.base_model.model.classifier.modules_to_save["default"].weight.grad.any()


@pytest.mark.parametrize("start", [InternVideoMAEForPreTraining, InternVideoMAEForVideoClassification])
def test_it_loads_the_encoders_that_were_trained_for_something_else(start, tmp_path):
    pretrained = start is InternVideoMAEForPreTraining
    torch.manual_seed(0)
    trained = move_from_start(start(tiny_config(use_mean_pooling=not pretrained)))
    trained.save_pretrained(tmp_path)
    options = {} if pretrained else {"use_mean_pooling": False, "ignore_mismatched_sizes": True}
    model = InternVideoMAEForVideoActionDetection.from_pretrained(tmp_path, num_labels=80, **options)
    norm, theirs = model.internvideo_mae.layernorm.weight, trained.internvideo_mae.layernorm
    assert torch.equal(norm, theirs.weight if pretrained else torch.ones(WIDTH))
    assert torch.equal(
        model.internvideo_mae.layers[1].mlp.fc1.weight, trained.internvideo_mae.layers[1].mlp.fc1.weight
    )
    assert model(clips(), BOXES).logits.shape == (2, 3, 80)
