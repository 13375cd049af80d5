"""TCANet: the encoder's windows, sampling of features, refinement of proposals."""

import math

import pytest
import torch
from models.model_checks import (
    ModelChecks,
    Tower,
    assert_compiles,
    assert_same,
    draw,
    move_from_start,
    tensors_of,
)
from transformers.exporters import DynamoConfig, DynamoExporter

from internvideo_hf import TCANetConfig, TCANetForTemporalLocalization, TCANetModel
from internvideo_hf.auto import auto_class
from internvideo_hf.models.tcanet.modeling_tcanet import refine, sample_rows, window_mask

FEATURES, WIDTH, HEADS, LENGTH = 6, 8, 4, 10
PARTS = ("segments", "overlaps", "boundary_losses", "overlap_losses")
DECODING = dict.fromkeys(
    ("suppression", "fusion", "features"), "read by the task, which makes the features and decodes the outputs"
)


def tiny_config(**changes) -> TCANetConfig:
    sizes = {
        "feature_size": FEATURES,
        "hidden_size": WIDTH,
        "intermediate_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "attention_window": 3,
        "max_sequence_length": LENGTH,
        "step_seconds": 0.5,
        "boundary_hidden_size": 12,
        "num_start_samples": 4,
        "num_action_samples": 8,
        "num_end_samples": 8,
        "num_groups": 2,
        "iou_thresholds": [0.4, 0.6],
    }
    return TCANetConfig(**(sizes | changes))


def proposals_of(batch: int = 2) -> dict[str, torch.Tensor]:
    """Return proposals, of which the last of the first video is padding, their segments and draws."""
    proposals = torch.tensor([[[0.5, 2.0], [1.0, 4.5], [0.0, 0.0]], [[0.0, 4.0], [2.5, 3.0], [2.0, 4.0]]])[:batch]
    return {
        "proposals": proposals,
        "labels": torch.tensor([[[0.5, 1.8], [0.5, 2.0], [0.0, 0.0]], [[0.2, 3.5], [0.2, 3.5], [2.1, 3.6]]])[:batch],
        "sampling_draws": draw(batch, 3, 2, 2).sigmoid(),
    }


class FeatureChecks(ModelChecks):
    """The checks of models that read features in place of frames."""

    def inputs(self):
        return {"features": draw(2, LENGTH - 3, FEATURES)}

    def towers(self, outputs):
        return [Tower(outputs, 2, (2, LENGTH, WIDTH), (2, HEADS, LENGTH, LENGTH))]

    def config(self):
        return tiny_config()

    @torch.no_grad()
    def test_other_frame_counts_and_sizes_are_taken(self) -> None:
        model, inputs = self.model(), self.inputs()
        for length in (1, LENGTH, LENGTH + 5):
            outputs = model(**inputs | {"features": draw(2, length, FEATURES)}, output_hidden_states=True)
            assert outputs.hidden_states[-1].shape[1] == max(length, LENGTH)
            assert all(tensor.isfinite().all() for tensor in tensors_of(outputs).values()), length

    def test_wrong_layouts_and_sizes_are_refused_with_what_would_fit(self) -> None:
        model, inputs = self.model(), self.inputs()
        features = inputs.pop("features")
        for wrong in (features.mT, features[0], features[None], features[..., 1:], features[:, :0]):
            with pytest.raises(ValueError, match=rf"expected \(batch, length, {FEATURES}\)") as error:
                model(wrong, **inputs if len(wrong) == 2 else {key: value[:1] for key, value in inputs.items()})
            assert str(tuple(wrong.shape)) in str(error.value)

    @pytest.mark.slow
    def test_whole_graph_compiles_for_any_number_of_frames(self) -> None:
        lengths = (LENGTH - 3, LENGTH + 4)
        assert_compiles(self.model(), [self.inputs() | {"features": draw(2, length, FEATURES)} for length in lengths])

    @pytest.mark.slow
    @torch.no_grad()
    def test_exported_program_takes_other_batches_and_frame_counts(self) -> None:
        model, inputs = self.model(), self.inputs()
        for name in ("labels", "sampling_draws"):
            inputs.pop(name, None)
        exported = DynamoExporter().export(model, inputs, config=DynamoConfig(dynamic=True))
        inputs = {name: torch.cat([value, value[:1] + 0.5]) for name, value in inputs.items()}
        for length in (LENGTH - 5, LENGTH - 1):
            inputs["features"] = draw(3, length, FEATURES)
            assert_same(dict(exported(**inputs)), dict(model(**inputs)), atol=1e-5, rtol=1e-5)


@pytest.mark.slow  # the head runs the encoder, too
class TestTCANetModel(FeatureChecks):
    model_class = TCANetModel
    input_embeddings = "embeddings"
    fields_read_elsewhere = DECODING | dict.fromkeys(
        (
            *("step_seconds", "context_ratio", "iou_thresholds", "boundary_hidden_size"),
            *("num_start_samples", "num_action_samples", "num_end_samples"),
        ),
        "read by the stages",
    )


class TestTCANetForTemporalLocalization(FeatureChecks):
    model_class = TCANetForTemporalLocalization
    auto_class = auto_class("AutoModelForTemporalLocalization")
    input_embeddings = "tcanet.embeddings"
    fields_read_elsewhere = DECODING
    loss_over = "pairs"
    in_float32 = (
        "loss",
        *(f"{name}.{stage}" for name in PARTS for stage in range(2)),
    )

    def inputs(self):
        return super().inputs() | proposals_of()


def head(**changes) -> TCANetForTemporalLocalization:
    torch.manual_seed(0)
    return move_from_start(TCANetForTemporalLocalization(tiny_config(**changes)))


def test_half_of_the_heads_see_a_window_and_half_everything():
    mask = window_mask(torch.zeros(1, 5, 8), heads=4, window=3)
    assert mask.shape == (1, 4, 5, 5) and not mask[0, 2:].any()
    near = [[abs(row - column) <= 1 for column in range(5)] for row in range(5)]
    assert (mask[0, :2] == 0).tolist() == [near, near]
    assert (window_mask(torch.zeros(1, 5, 6), heads=3, window=3) < 0).any(dim=(2, 3)).tolist() == [
        [True, False, False]
    ]
    # An even window reaches one position further back, and is cut at the ends.
    assert (window_mask(torch.zeros(1, 4, 2), 2, 2)[0, 0] == 0).long().tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [0, 1, 1, 0],
        [0, 0, 1, 1],
    ]


@torch.no_grad()
def test_padding_is_part_of_the_answer_and_the_model_pads():
    model, features = TCANetModel(tiny_config()).eval(), draw(1, 6, FEATURES)
    padded = torch.cat([features, torch.zeros(1, LENGTH - 6, FEATURES)], dim=1)
    assert torch.equal(model(features).last_hidden_state, model(padded).last_hidden_state)
    longer = torch.cat([padded, torch.zeros(1, 4, FEATURES)], dim=1)
    assert not torch.allclose(model(longer).last_hidden_state[:, :6], model(features).last_hidden_state[:, :6])


def test_samples_are_interpolated_between_centers_of_equal_parts():
    # Feature n is at (n + 0.5) / 4 of the sequence.
    features = torch.tensor([1.0, 2.0, 4.0, 8.0])[None, :, None]
    found = sample_rows(features, torch.tensor([[[0.0, 1.0], [0.25, 0.75], [0.5, 0.5]]]), 2)
    assert found.shape == (3, 1, 2)
    # Centers of halves: 0.25 and 0.75; of the middle's: 0.375 and 0.625.
    torch.testing.assert_close(found[:, 0], torch.tensor([[1.5, 6.0], [2.0, 4.0], [3.0, 3.0]]))
    # At the very ends, half of what is sampled lies outside, where there is zero; segments are cut to the sequence.
    torch.testing.assert_close(
        sample_rows(features, torch.tensor([[[-3.0, -1.0], [1.0, 2.0]]]), 1).flatten(), torch.tensor([0.5, 4.0])
    )


def test_proposals_move_by_both_predictions():
    proposals, offsets, shape = torch.tensor([[[2.0, 6.0]]]), torch.tensor([[[0.1, -0.2]]]), torch.zeros(1, 1, 2)
    assert refine(proposals, offsets, shape, 1.0).flatten().tolist() == pytest.approx([2.2, 5.6])
    assert refine(proposals, offsets, shape, 0.2).flatten().tolist() == pytest.approx([2.04, 5.92])
    shape = torch.tensor([[[1.0, 5 * math.log(2)]]])  # a tenth of the width further, and twice as wide
    assert refine(proposals, 0 * offsets, shape, 1.0).flatten().tolist() == pytest.approx([1.2, 7.2])
    assert refine(proposals, -9 * torch.ones(1, 1, 2), shape, 1.0).flatten()[0] == 0


@torch.no_grad()
def test_a_stage_gets_what_the_one_before_has_found():
    model, inputs = head(), TestTCANetForTemporalLocalization().inputs()
    outputs = model(**inputs)
    second = model(**inputs | {"proposals": outputs.segments[0]})
    features = model.tcanet(inputs["features"]).last_hidden_state
    _, _, overlaps = model.stages[1](features, outputs.segments[0])
    torch.testing.assert_close(outputs.overlaps[1][1], overlaps[1])
    assert not torch.equal(second.segments[0], outputs.segments[1])


@torch.no_grad()
def test_padded_proposals_change_nothing():
    model, inputs = head(), TestTCANetForTemporalLocalization().inputs()
    outputs = model(**inputs)
    assert not outputs.segments[-1][0, 2].any() and not outputs.overlaps[-1][0, 2]
    one_more = {name: torch.cat([inputs[name], 0 * inputs[name][:, :1]], dim=1) for name in proposals_of()}
    longer = model(**inputs | one_more)
    torch.testing.assert_close(longer.loss, outputs.loss)
    torch.testing.assert_close(longer.segments[-1][:, :3], outputs.segments[-1])


@torch.no_grad()
def test_scores_are_those_of_proposals_times_the_overlap_before_the_last():
    inputs = TestTCANetForTemporalLocalization().inputs()
    for thresholds, stage in (([0.5], 0), ([0.5, 0.6, 0.7], 1)):
        outputs = head(iou_thresholds=thresholds)(
            inputs["features"], inputs["proposals"], proposal_scores=torch.full((2, 3), 0.5)
        )
        assert torch.equal(outputs.scores, 0.5 * outputs.overlaps[stage])


def test_boundaries_move_further_in_training():
    model, inputs = head(hidden_dropout=0.0, attention_dropout=0.0), TestTCANetForTemporalLocalization().inputs()
    rested, trained = model(**inputs), model.train()(**inputs)
    assert torch.equal(rested.overlaps[0], trained.overlaps[0])
    far, near = ((outputs.segments[0] - inputs["proposals"]).abs().sum() for outputs in (trained, rested))
    assert far > near


def test_examples_of_the_overlap_are_drawn_anew_and_follow_the_seed():
    model, features = head(), draw(1, LENGTH, FEATURES)
    proposals = torch.tensor([[[0.0, 2.0], *([3.0, 3.5 + 0.1 * number] for number in range(8))]])
    labels = torch.tensor([[0.0, 2.0]]).expand(1, 9, 2)  # one high example, and eight low ones
    losses = []
    for seed in (0, 0, 1, 2, 3):
        torch.manual_seed(seed)
        losses.append(model(features, proposals, labels=labels).loss.item())
    assert losses[0] == losses[1] and len(set(losses)) > 1


def test_proposals_of_other_shapes_are_refused():
    model, inputs = head(), TestTCANetForTemporalLocalization().inputs()
    proposals = inputs["proposals"]
    for wrong in (proposals[:1], proposals[0], torch.zeros(2, 3, 3)):
        with pytest.raises(ValueError, match=r"proposals has the shape .*, expected \(2, proposals, 2\)"):
            model(inputs["features"], wrong)
    with pytest.raises(ValueError, match=r"labels has the shape \(2, 2, 2\), expected \(2, 3, 2\)"):
        model(inputs["features"], proposals, labels=proposals[:, 1:])
    with pytest.raises(ValueError, match=r"sampling_draws has the shape \(2, 3, 2\), expected \(2, 3, 2, 2\)"):
        model(inputs["features"], proposals, labels=proposals, sampling_draws=torch.rand(2, 3, 2))
