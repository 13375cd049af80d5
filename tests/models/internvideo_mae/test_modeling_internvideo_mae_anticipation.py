"""Short-term anticipation: verbs and times of boxes, compared with pooling by hand, and the means of its losses."""

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
from models.internvideo_mae.test_modeling_internvideo_mae_detection import BOXES, MASK
from models.model_checks import EITHER_HALF, ExportedInAnother, ModelChecks, Tower, draw, move_from_start
from torch.nn.functional import cross_entropy, smooth_l1_loss, softplus

from internvideo_hf import InternVideoMAEForPreTraining, InternVideoMAEForShortTermAnticipation
from internvideo_hf.auto import auto_class
from internvideo_hf.models.internvideo_mae import modeling_internvideo_mae_detection as boxes_module
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae import sine_table
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae_anticipation import encode_boxes
from internvideo_hf.training.trainer import VideoTrainer, VideoTrainingArguments

NAN = torch.nan
# Two of each clip's boxes have a verb, and one a time; where there is no box, both are given and must not count.
VERBS = torch.tensor([[1, -100, 4], [0, 2, 3]])
TIMES = torch.tensor([[0.5, NAN, NAN], [NAN, 1.75, 9.0]])
READ = ("the detector reads it", "short-term anticipation reads it")


def anticipation_config(**changes):
    return tiny_config(**{"use_mean_pooling": False, "roi_aligned": True} | changes)


def anticipator(**changes) -> InternVideoMAEForShortTermAnticipation:
    torch.manual_seed(0)
    return move_from_start(InternVideoMAEForShortTermAnticipation(anticipation_config(**changes)))


class TestInternVideoMAEForShortTermAnticipation(ExportedInAnother, ModelChecks):
    model_class = InternVideoMAEForShortTermAnticipation
    auto_class = auto_class("AutoModelForShortTermAnticipation")
    in_float32 = ("loss", "verb_loss", "time_loss")
    input_embeddings = "internvideo_mae.embeddings"
    frame_counts = ()
    fields_read_elsewhere = {key: why for key, why in FIELDS_READ_ELSEWHERE.items() if why not in READ} | {
        "detection_head": "the detector reads it"
    }
    loss_over = "samples"
    wrong_size = None
    file_rounding = 1e-6

    def config(self):
        return anticipation_config()

    def inputs(self):
        labels = {"verb_labels": VERBS, "time_labels": TIMES}
        return {"pixel_values_videos": clips(), "boxes": BOXES, "box_mask": MASK, **labels}

    def towers(self, outputs):
        return [Tower(outputs, LAYERS, (2, CUBES, WIDTH), (2, HEADS, CUBES, CUBES))]

    @pytest.mark.parametrize("first", EITHER_HALF)
    @pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
    def test_a_device_map_may_put_any_half_on_another_device(self, first, monkeypatch):
        # Tensors without values cannot be checked for finite ones.
        monkeypatch.setattr(boxes_module, "check_boxes", lambda boxes, box_mask, batch: box_mask)
        super().test_a_device_map_may_put_any_half_on_another_device(first)


# The released numbers stand in the golden cases; these tests are of what those do not show.


@torch.no_grad()
def test_a_box_has_the_verbs_of_its_largest_value_and_the_time_of_that_and_of_its_place():
    model = anticipator(roi_size=1, roi_sampling_ratio=1)
    tokens = model.internvideo_mae(clips()).last_hidden_state
    maps = tokens.unflatten(1, (FRAMES // 2, SIDE // PATCH, SIDE // PATCH)).mean(dim=1)
    # A box of one patch, whose middle is that of a cell: row 1, column 2.
    box = torch.tensor([[[16.0, 8.0, 24.0, 16.0]]]).repeat(2, 1, 1)
    cell = maps[:, 1, 2]
    found = model(clips(), box)
    torch.testing.assert_close(found.logits[:, 0], model.classifier(cell), atol=1e-6, rtol=1e-5)
    code = sine_table(SIDE, WIDTH)[[16, 8, 24, 16]].sum(dim=0)
    expected = softplus(model.regressor(cell + code))
    torch.testing.assert_close(found.times, expected, atol=1e-6, rtol=1e-5)


def test_codes_of_boxes_are_of_their_whole_pixels_and_have_no_end():
    table, far = sine_table(60_001, WIDTH), torch.tensor([[[3.9, 0.0, 59_999.5, 60_000.0]]])
    expected = table[[3, 0, 59_999, 60_000]].sum(dim=0)
    torch.testing.assert_close(encode_boxes(far, WIDTH)[0, 0], expected, rtol=0, atol=0)
    assert encode_boxes(far.half().float().clamp(max=40), WIDTH).dtype == torch.float32


@torch.no_grad()
def test_edges_beyond_the_frame_are_those_of_its_border():
    model = anticipator()
    beyond = torch.tensor([[[-5.0, -2.0, 40.0, 99.0]]]).repeat(2, 1, 1)
    inside = torch.tensor([[[0.0, 0.0, SIDE, SIDE]]]).repeat(2, 1, 1)
    assert torch.equal(model(clips(), beyond).times, model(clips(), inside).times)


@torch.no_grad()
def test_padding_of_clips_and_of_boxes_changes_nothing():
    model = anticipator()
    small = clips()[..., :16, :24]
    alone = model(small, BOXES / 2, MASK)
    filled = torch.zeros_like(clips())
    filled[..., :16, :24] = small
    mask = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    mask[:, :16, :24] = True
    wrong = (BOXES / 2).masked_fill(~MASK[..., None], torch.nan)
    found = model(filled, wrong, MASK, pixel_mask=mask)
    torch.testing.assert_close(found.logits, alone.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.times, alone.times, atol=1e-5, rtol=1e-5)
    assert not found.logits[~MASK].any() and not found.times[~MASK].any()


def test_losses_are_means_over_the_boxes_with_a_label():
    model = anticipator(verb_loss_weight=0.5, time_loss_weight=3.0).train()
    found = model(clips(), BOXES, MASK, verb_labels=VERBS, time_labels=TIMES)
    verbs = cross_entropy(found.logits[[0, 0, 1, 1], [0, 2, 0, 1]], torch.tensor([1, 4, 0, 2]))
    times = smooth_l1_loss(found.times[[0, 1], [0, 1]], torch.tensor([0.5, 1.75]))
    torch.testing.assert_close(found.verb_loss, verbs)
    torch.testing.assert_close(found.time_loss, times)
    torch.testing.assert_close(found.loss, 0.5 * verbs + 3 * times)
    only = model(clips(), BOXES, MASK, verb_labels=VERBS)
    assert only.time_loss is None and torch.equal(only.loss, 0.5 * only.verb_loss)
    none = model(clips(), BOXES, MASK, verb_labels=VERBS * 0 - 100, time_labels=TIMES * NAN)
    none.loss.backward()
    assert none.loss == 0 and not any(weight.grad.any() for weight in model.parameters() if weight.grad is not None)


def test_a_clip_without_boxes_has_no_answers():
    found = anticipator()(clips(), torch.zeros(2, 0, 4))
    assert found.logits.shape == (2, 0, LABELS) and found.times.shape == (2, 0) and found.loss is None


SAMPLES = [
    {
        "pixel_values_videos": clip,
        "boxes": BOXES[0],
        "box_mask": torch.arange(3) < number % 4,
        "verb_labels": torch.where(torch.arange(3) < number % 3 + 1, number % LABELS, -100),
        "time_labels": torch.where(torch.arange(3) < number % 2 + 1, number / 4, NAN),
    }
    for number, clip in enumerate(draw(8, FRAMES, 3, SIDE, SIDE))
]


def anticipation_trainer(folder, **options) -> VideoTrainer:
    """One step of 8 clips, by plain descent; their numbers of verbs and of times differ."""
    settings = {"optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "max_steps": 1}
    settings |= {"max_grad_norm": 0.0, "save_strategy": "no", "report_to": "none", "logging_steps": 1}
    args = VideoTrainingArguments(str(folder), use_cpu=True, disable_tqdm=True, **settings | options)
    return VideoTrainer(anticipator(), args, train_dataset=SAMPLES)


def test_accumulated_batches_train_like_one_and_log_the_same_losses(tmp_path):
    one, parts = (
        anticipation_trainer(tmp_path, per_device_train_batch_size=8 // parts, gradient_accumulation_steps=parts)
        for parts in (1, 4)
    )
    logs = []
    for run in (one, parts):
        start = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
        run.train()
        assert any(not torch.equal(run.model.state_dict()[name], tensor) for name, tensor in start.items())
        logs.append({name: run.state.log_history[0][name] for name in ("loss", "verb_loss", "time_loss")})
    for name, tensor in one.model.state_dict().items():
        torch.testing.assert_close(parts.model.state_dict()[name], tensor, atol=1e-6, rtol=1e-5)
    assert logs[1] == pytest.approx(logs[0], rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"boxes": BOXES[:1]}, r"\(1, 3, 4\), expected \(2, boxes, 4\)"),
        ({"verb_labels": VERBS[:, :2]}, r"verb_labels has the shape \(2, 2\), expected \(2, 3\)"),
        ({"time_labels": TIMES[0]}, r"time_labels has the shape \(3,\), expected \(2, 3\)"),
    ],
)
def test_wrong_shapes_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        anticipator()(**{"pixel_values_videos": clips(), "boxes": BOXES, "box_mask": MASK} | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_mean_pooling": True}, "Short-term anticipation needs .* pass use_mean_pooling=False"),
        ({"problem_type": "multi_label_classification"}, "expected 'single_label_classification'"),
    ],
)
def test_settings_of_other_heads_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        InternVideoMAEForShortTermAnticipation(anticipation_config(**changes))
    with pytest.raises(Exception, match="time_loss_weight=-1 must be 0 or more"):
        anticipation_config(time_loss_weight=-1)


def test_it_loads_a_pretrained_encoder_and_both_heads_are_one_group(tmp_path):
    torch.manual_seed(0)
    trained = move_from_start(InternVideoMAEForPreTraining(tiny_config(use_mean_pooling=False)))
    trained.save_pretrained(tmp_path)
    model = InternVideoMAEForShortTermAnticipation.from_pretrained(tmp_path, num_labels=75)
    assert torch.equal(model.internvideo_mae.layernorm.weight, trained.internvideo_mae.layernorm.weight)
    assert model(clips(), BOXES).logits.shape == (2, 3, 75)
    model.freeze_backbone()
    head = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert head == set(model.layer_groups()["head"]) >= {"classifier.weight", "regressor.bias"}
