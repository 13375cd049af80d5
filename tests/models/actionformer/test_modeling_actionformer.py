"""ActionFormer: pyramid, neck, heads, the length that sequences are padded to, and the running normalizer."""

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

from internvideo_hf import ActionFormerConfig, ActionFormerForTemporalLocalization, ActionFormerModel
from internvideo_hf.auto import auto_class
from internvideo_hf.models.common.layers import sine_table

FEATURES, WIDTH, HEADS, LENGTH, CLASSES = 6, 8, 2, 16, 3
DECODING = "read by the task, which makes the features and decodes the outputs"


def tiny_config(**changes) -> ActionFormerConfig:
    sizes = {
        "feature_size": FEATURES,
        "hidden_size": WIDTH,
        "intermediate_size": 12,
        "num_attention_heads": HEADS,
        "num_stem_layers": 1,
        "num_levels": 3,
        "attention_windows": [5, 3, -1],
        "max_sequence_length": LENGTH,
        "num_labels": CLASSES,
        "layer_scale_init_value": 0.5,
        "head_hidden_size": 10,
    }
    return ActionFormerConfig(**(sizes | changes))


def head(**changes) -> ActionFormerForTemporalLocalization:
    torch.manual_seed(0)
    return move_from_start(ActionFormerForTemporalLocalization(tiny_config(**changes)))


def features_of(*lengths: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return features and the mask of sequences of these lengths."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return {"features": draw(len(lengths), max(lengths), FEATURES, seed=seed), "attention_mask": mask}


class FeatureChecks(ModelChecks):
    """The checks of models that read features in place of frames."""

    constants = ("points",)

    def config(self):
        return tiny_config(use_absolute_positions=True)

    def inputs(self):
        return features_of(LENGTH - 2, LENGTH - 6)

    def towers(self, outputs):
        return [Tower(outputs, 3, (), ())]  # the layers differ in length: see the checks below

    @torch.no_grad()
    def test_hidden_states_are_one_more_than_layers(self) -> None:
        states = self.model()(**self.inputs(), output_hidden_states=True).hidden_states
        assert [tuple(state.shape) for state in states] == [(2, length, WIDTH) for length in (16, 16, 8, 4)]
        assert self.model()(**self.inputs()).hidden_states is None

    @torch.no_grad()
    def test_hidden_states_of_chosen_layers_leave_out_the_others(self) -> None:
        states = self.model()(**self.inputs(), output_hidden_states=[1, -1]).hidden_states
        assert [state is not None for state in states] == [False, True, False, True]

    @torch.no_grad()
    def test_attentions_of_the_eager_kernel_are_probabilities(self) -> None:
        model = self.model(attn_implementation="eager")
        attentions = model(**self.inputs(), output_attentions=True).attentions
        assert [tuple(weights.shape) for weights in attentions] == [(2, 2, 16, 5), (2, 2, 8, 3), (2, 2, 4, 4)]
        for weights in attentions:
            torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))

    @torch.no_grad()
    def test_other_frame_counts_and_sizes_are_taken(self) -> None:
        model = self.model()
        for lengths, padded in (((1,), 16), ((16, 3), 16), ((17, 16), 20), ((41,), 44)):
            outputs = model(**features_of(*lengths))
            assert [mask.shape[1] for mask in outputs.masks] == [padded, padded // 2, padded // 4]
            assert all(tensor.isfinite().all() for tensor in tensors_of(outputs).values()), lengths

    def test_wrong_layouts_and_sizes_are_refused_with_what_would_fit(self) -> None:
        model, inputs = self.model(), self.inputs()
        features, mask = inputs["features"], inputs["attention_mask"]
        for wrong in (features.mT, features[0], features[None], features[..., 1:], features[:, :0]):
            with pytest.raises(ValueError, match="expected") as error:
                model(wrong)
            assert str(tuple(wrong.shape)) in str(error.value)
            assert f"(batch, length, {FEATURES})" in str(error.value)
        for wrong in (mask[:1], mask[:, 1:], mask[..., None]):
            with pytest.raises(ValueError, match=r"expected \(2, 14\)"):
                model(features, wrong)
        with pytest.raises(ValueError, match="length of 17, expected 16 or less in training"):
            model.train()(draw(1, 17, FEATURES))

    @pytest.mark.slow
    def test_whole_graph_compiles_for_any_number_of_frames(self) -> None:
        assert_compiles(self.model(), [self.inputs(), features_of(19, 12)])

    @torch.no_grad()
    @pytest.mark.slow
    def test_exported_program_takes_other_batches_and_frame_counts(self) -> None:
        model = self.model()
        exported = DynamoExporter().export(model, self.inputs(), config=DynamoConfig(dynamic=True))
        for lengths in ((14, 10, 3), (7, 2)):
            inputs = features_of(*lengths)
            assert_same(dict(exported(**inputs)), dict(model(**inputs)), atol=1e-5, rtol=1e-5)


class TestActionFormerModel(FeatureChecks):
    model_class = ActionFormerModel
    input_embeddings = "embeddings"
    fields_read_elsewhere = dict.fromkeys(
        (
            *("neck_type", "neck_hidden_size", "use_neck_norm", "head_hidden_size", "num_head_layers"),
            *("head_kernel_size", "use_head_norm", "num_levels", "regression_ranges", "center_sampling_radius"),
            *("label_smoothing", "loss_weight"),
        ),
        "read by the heads",
    ) | dict.fromkeys(("selection", "suppression", "features"), DECODING)


class TestActionFormerForTemporalLocalization(FeatureChecks):
    model_class = ActionFormerForTemporalLocalization
    auto_class = auto_class("AutoModelForTemporalLocalization")
    input_embeddings = "actionformer.embeddings"
    fields_read_elsewhere = dict.fromkeys(("selection", "suppression", "features"), DECODING)

    def model(self, **options):
        model = super().model(**options)
        with torch.no_grad():
            model.regressor.output.bias.fill_(2.0)  # some distances of each level are not cut off at 0
        return model


@pytest.mark.slow
class TestActionFormerWithAllOptions(TestActionFormerForTemporalLocalization):
    """The feature pyramid network, relative positions, no norms before the pyramid, no factors on branches."""

    def config(self):
        return tiny_config(
            neck_type="fpn",
            neck_hidden_size=12,
            use_relative_positions=True,
            use_embedding_norm=False,
            layer_scale_init_value=0.0,
            hidden_dropout=0.1,
            attention_dropout=0.1,
        )


# Padding


@torch.no_grad()
def test_padded_positions_leak_unless_the_length_is_the_one_of_the_model():
    model, short = head(), draw(1, LENGTH - 4, FEATURES)
    outputs = model(short)
    padded = torch.nn.functional.pad(short, (0, 0, 0, 4))
    mask = torch.arange(LENGTH)[None] < LENGTH - 4
    assert_same(model(padded, mask), outputs)
    assert not outputs.logits[0][:, LENGTH - 4 :].any() and not outputs.offsets[1][:, (LENGTH - 4) // 2 :].any()
    bare = head(max_sequence_length=LENGTH - 4)(short)
    there = outputs.logits[0][:, : LENGTH - 4]
    assert (bare.logits[0] - there)[:, -1].abs().max() > 1e-3, "the last position sees where the sequence ends"


@torch.no_grad()
def test_whatever_stands_at_padded_positions_is_not_read():
    model, inputs = head(), features_of(LENGTH, 5)
    expected = model(**inputs)
    inputs["features"][1, 5:] = torch.nan
    assert_same(model(**inputs), expected)


@torch.no_grad()
def test_a_video_in_a_batch_of_its_padded_length_has_the_answer_that_it_has_alone():
    model, inputs = head(use_absolute_positions=True), features_of(19, 17)
    outputs, alone = model(**inputs), model(inputs["features"][1:, :17])
    for name in ("logits", "offsets"):
        for level, expected in zip(outputs[name], alone[name], strict=True):
            torch.testing.assert_close(level[1:], expected, atol=1e-6, rtol=1e-5)


# Parts


@torch.no_grad()
def test_positions_are_a_sine_table_that_longer_sequences_resample():
    positions = ActionFormerModel(tiny_config(use_absolute_positions=True)).positions
    table = sine_table(LENGTH, WIDTH) / WIDTH**0.5
    assert torch.equal(positions(LENGTH), table) and torch.equal(positions(5), table[:5])
    longer = positions(2 * LENGTH)
    # Half-pixel centers: new positions lie a quarter before and behind old ones.
    torch.testing.assert_close(longer[2], 0.25 * table[0] + 0.75 * table[1])
    torch.testing.assert_close(longer[3], 0.75 * table[1] + 0.25 * table[2])


@torch.no_grad()
def test_coarse_levels_reach_finer_ones_through_the_neck_alone():
    changes = []
    for neck in ("identity", "fpn"):
        model, maps = head(neck_type=neck).neck, [draw(1, length, WIDTH) for length in (8, 4, 2)]
        masks = [torch.ones(1, length, dtype=torch.bool) for length in (8, 4, 2)]
        before = model(maps, masks)
        maps[2] = maps[2] + draw(1, 2, WIDTH, seed=1)
        changes.append([not torch.equal(*pair) for pair in zip(model(maps, masks), before, strict=True)])
    assert changes == [[False, False, True], [True, True, True]]


def test_the_neck_has_biases_in_its_norms_alone():
    names = set(head(neck_type="fpn", use_neck_norm=False).neck.state_dict())
    assert names == {f"{part}.{level}.weight" for part in ("laterals", "convs") for level in range(3)}


def test_fresh_weights_are_those_of_the_original():
    torch.manual_seed(0)
    model = ActionFormerForTemporalLocalization(tiny_config(layer_scale_init_value=1e-4, use_embedding_norm=False))
    biases = [name for name, p in model.named_parameters() if name.endswith("bias") and p.any()]
    assert biases == ["classifier.output.bias"]
    assert torch.allclose(model.classifier.output.bias.sigmoid(), torch.tensor(0.01))
    assert torch.equal(model.actionformer.layers[1].layer_scale2.factor, torch.full((WIDTH,), 1e-4))
    bound = (1 / (3 * FEATURES)) ** 0.5  # of torch's convolutions
    assert 0.9 * bound < model.actionformer.embeddings.convs[0].weight.abs().max() <= bound


# The loss


def labels_of(*videos: list[tuple[float, float, int]]) -> list[dict[str, torch.Tensor]]:
    rows = [torch.tensor(video, dtype=torch.float32).reshape(-1, 3) for video in videos]
    return [{"segments": row[:, :2], "class_labels": row[:, 2].long()} for row in rows]


LABELS = labels_of([(2.0, 5.0, 1), (1.0, 12.5, 0)], [(3.2, 6.0, 2)])


def positives(model: ActionFormerForTemporalLocalization, inputs: dict, labels: list) -> int:
    """Count positive points, by the gradient that only they give to distances."""
    outputs = model(**inputs, labels=labels)
    grads = torch.autograd.grad(outputs.segment_loss, outputs.offsets, allow_unused=True)
    return sum(int(grad.abs().sum(-1).gt(0).sum()) for grad in grads if grad is not None)


def test_the_normalizer_moves_in_training_and_is_saved(tmp_path):
    model, inputs = head(init_loss_normalizer=50, drop_path_rate=0.0), features_of(LENGTH, 9)
    count = positives(model, inputs, LABELS)
    in_evaluation = model(**inputs, labels=LABELS)
    assert count > 2 and model.loss_normalizer == 50
    outputs = model.train()(**inputs, labels=LABELS)
    assert model.loss_normalizer.item() == pytest.approx(0.9 * 50 + 0.1 * count, rel=1e-6)
    for name in ("loss", "class_loss", "segment_loss"):
        expected = in_evaluation[name].item() * 50 / model.loss_normalizer.item()
        assert outputs[name].item() == pytest.approx(expected, rel=1e-5), name
    model.save_pretrained(tmp_path)
    loaded = ActionFormerForTemporalLocalization.from_pretrained(tmp_path)
    assert torch.equal(loaded.loss_normalizer, model.loss_normalizer)
    before = model.loss_normalizer.item()
    model(**inputs, labels=labels_of([], []))
    assert model.loss_normalizer.item() == pytest.approx(0.9 * before + 0.1, rel=1e-6), "no positives count as one"


def test_the_weight_of_boundaries_is_given_or_balances_the_losses():
    inputs = features_of(LENGTH, 9)
    given = head(loss_weight=2.5)(**inputs, labels=LABELS)
    assert given.loss.item() == pytest.approx((given.class_loss + 2.5 * given.segment_loss).item())
    balanced = head(loss_weight=0)(**inputs, labels=LABELS)
    assert balanced.segment_loss > 0.01
    assert balanced.loss.item() == pytest.approx(2 * balanced.class_loss.item())


def test_gradients_of_processes_average_to_those_of_one_with_all_videos(monkeypatch):
    inputs, losses, counts = features_of(LENGTH, LENGTH), [], []
    whole = head(drop_path_rate=0.0).train()
    expected = whole(**inputs, labels=LABELS).loss
    for rank in (0, 1):
        own = {name: value[rank : rank + 1] for name, value in inputs.items()}
        counts.append(positives(head(), own, LABELS[rank : rank + 1]))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda count: count.fill_(sum(counts)))
    for rank in (0, 1):
        own = {name: value[rank : rank + 1] for name, value in inputs.items()}
        model = head(drop_path_rate=0.0).train()
        losses.append(model(**own, labels=LABELS[rank : rank + 1]).loss)
        assert torch.equal(model.loss_normalizer, whole.loss_normalizer)
    torch.testing.assert_close(sum(losses) / 2, expected)


def test_labels_have_one_entry_for_each_video():
    with pytest.raises(ValueError, match="got 1 entries, expected one for each of 2 videos"):
        head()(**features_of(4, 4), labels=LABELS[:1])


def test_a_step_of_training_lowers_the_loss():
    model, inputs = head(drop_path_rate=0.0).train(), features_of(LENGTH, 9)
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.01), []
    for _ in range(5):
        optimizer.zero_grad()
        loss = model(**inputs, labels=LABELS).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@torch.no_grad()
@pytest.mark.slow
def test_fifty_thousand_positions_pass():
    config = ActionFormerConfig(
        feature_size=FEATURES,
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        num_labels=CLASSES,
        max_sequence_length=2304,
    )
    outputs = ActionFormerForTemporalLocalization(config).eval()(draw(1, 50_000, FEATURES))
    assert outputs.logits[0].shape == (1, 50_112, CLASSES) and outputs.logits[0].isfinite().all()
