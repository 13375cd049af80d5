"""The planner of navigation: what it sees, its order of views, its history, and its choices."""

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
)
from transformers.exporters import DynamoConfig, DynamoExporter

from internvideo_hf import VLNPlannerConfig, VLNPlannerForNavigation
from internvideo_hf.auto import auto_class
from internvideo_hf.models.vln_planner.modeling_vln_planner import (
    CANDIDATE,
    STOP,
    VIEW,
    angle_features,
    observe,
    view_angles,
)

VIEWS, WORDS, CANDIDATES, STEPS, WIDTH, HEADS = 6, 5, 3, 2, 8, 2


def tiny_config(**changes) -> VLNPlannerConfig:
    sizes = {
        "vocab_size": 30,
        "max_position_embeddings": 9,
        "hidden_size": WIDTH,
        "intermediate_size": 12,
        "num_hidden_layers": 3,
        "num_cross_layers": 2,
        "num_panorama_layers": 1,
        "num_attention_heads": HEADS,
        "still_size": 7,
        "video_size": 11,
        "rgb_size": 10,
        "depth_size": 13,
        "num_views": VIEWS,
        "max_history_steps": 4,
        "use_critic": True,
        "critic_hidden_size": 14,
        "layer_norm_eps": 1e-6,
    }
    return VLNPlannerConfig(**(sizes | changes))


def inputs_of(batch: int = 2, steps: int = STEPS) -> dict[str, torch.Tensor]:
    """Return a step of `batch` agents, each of which took the same steps before."""
    chosen = angle_features(draw(batch, steps, seed=7))
    return {
        "input_ids": 1 + torch.arange(batch * WORDS).reshape(batch, WORDS) % 20,
        "attention_mask": torch.ones(batch, WORDS, dtype=torch.long),
        "video_features": draw(batch, VIEWS, 11, seed=1),
        "still_features": draw(batch, VIEWS, 7, seed=2),
        "depth_features": draw(batch, VIEWS, 13, seed=3),
        "candidate_views": torch.tensor([[1, 3, 5], [0, 2, 2]])[:batch],
        "candidate_angles": torch.tensor([[1.0, 3.1, 5.2], [0.1, 2.0, 2.2]])[:batch],
        "candidate_distances": torch.tensor([[0.5, 1.0, 3.0], [0.25, 2.0, 2.5]])[:batch],
        "candidate_mask": torch.ones(batch, CANDIDATES, dtype=torch.bool),
        "past_video_features": draw(batch, steps, VIEWS, 11, seed=4),
        "past_still_features": draw(batch, steps, VIEWS, 7, seed=5),
        "past_angle_features": chosen,
        "past_mask": torch.ones(batch, steps, dtype=torch.bool),
        "labels": torch.tensor([1, CANDIDATES])[:batch],
    }


class TestVLNPlannerForNavigation(ModelChecks):
    model_class = VLNPlannerForNavigation
    auto_class = auto_class("AutoModelForNavigation")
    input_embeddings = "embeddings.word_embeddings"
    in_float32 = ("loss",)
    fields_read_elsewhere = {"initializer_range": "read by transformers"}
    loss_over = "pairs"  # the mean over the samples that have a label

    def config(self):
        return tiny_config()

    def inputs(self):
        return inputs_of()

    def towers(self, outputs):
        return [Tower(outputs, 3, (2, WORDS, WIDTH), (2, HEADS, WORDS, WORDS))]

    @torch.no_grad()
    def test_other_frame_counts_and_sizes_are_taken(self) -> None:
        model = self.model()
        for words, steps in ((1, 0), (9, 4)):
            inputs = inputs_of(steps=steps) | {"input_ids": torch.ones(2, words, dtype=torch.long)}
            outputs = model(**inputs | {"attention_mask": None})
            assert outputs.logits.shape == (2, CANDIDATES + 1) and outputs.logits.isfinite().all()

    def test_wrong_layouts_and_sizes_are_refused_with_what_would_fit(self) -> None:
        model, inputs = self.model(), self.inputs()
        for name, size in (("video_features", 11), ("still_features", 7)):
            for wrong in (inputs[name][:, 1:], inputs[name][..., 1:], inputs[name][0]):
                with pytest.raises(ValueError, match=rf"{name} has the shape .*expected \(batch, {VIEWS}, {size}\)"):
                    model(**inputs | {name: wrong})
        with pytest.raises(ValueError, match=rf"depth_features .*expected \(2, {VIEWS}, 13\)"):
            model(**inputs | {"depth_features": inputs["depth_features"][..., 0]})
        with pytest.raises(ValueError, match=r"\(2, 2\).*expected \(2, candidates\)"):
            model(**inputs | {"candidate_mask": inputs["candidate_mask"][:, 1:]})
        with pytest.raises(ValueError, match=r"input_ids has the shape \(2, 10\).*1 to 9 words"):
            model(**inputs | {"input_ids": torch.ones(2, 10, dtype=torch.long)})

    @pytest.mark.slow
    def test_whole_graph_compiles_for_any_number_of_frames(self) -> None:
        assert_compiles(self.model(), [inputs_of(steps=steps) for steps in (1, 3)])

    @pytest.mark.slow
    @torch.no_grad()
    def test_exported_program_takes_other_batches_and_frame_counts(self) -> None:
        model, inputs = self.model(), self.inputs()
        inputs.pop("labels")
        exported = DynamoExporter().export(model, inputs, config=DynamoConfig(dynamic=True))
        bigger = {name: torch.cat([value, value[:1]]) for name, value in inputs.items()}
        assert_same(dict(exported(**bigger)), dict(model(**bigger)), atol=1e-5, rtol=1e-5)


def planner(**changes) -> VLNPlannerForNavigation:
    torch.manual_seed(0)
    return move_from_start(VLNPlannerForNavigation(tiny_config(**changes)))


def test_angles_are_described_to_the_right():
    right, left = angle_features(torch.tensor([-math.pi / 2, math.pi / 2]))
    torch.testing.assert_close(right, torch.tensor([1.0, 0.0, 0.0, 1.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(left, torch.tensor([-1.0, 0.0, 0.0, 1.0]), atol=1e-6, rtol=0)
    assert view_angles(12)[[0, 3, 6]].tolist() == pytest.approx([0, math.pi / 2, math.pi])


def test_views_in_which_candidates_lie_are_seen_once():
    rgb = torch.arange(8.0).reshape(2, 4, 1) + 1  # 1 to 4, and 5 to 8
    views, mask = torch.tensor([[2, 0], [3, 0]]), torch.tensor([[True, True], [True, False]])
    seen = observe(rgb, 10 * rgb, views, torch.zeros(2, 2), torch.tensor([[1.5, 3.0], [0.75, 0.0]]), mask)
    assert seen.types.tolist() == [CANDIDATE, CANDIDATE, STOP, VIEW, VIEW, VIEW, VIEW]
    assert [row[real].tolist() for row, real in zip(seen.rgb[..., 0], seen.mask, strict=True)] == [
        [3, 1, 0, 2, 4],
        [8, 0, 5, 6, 7],
    ]
    assert seen.depth[0, :, 0].tolist() == [30, 10, 0, 10, 20, 30, 40]
    assert seen.distances[0].tolist() == [[0.5] * 4, [1.0] * 4, *[[0.0] * 4] * 5]
    assert seen.angles[0, 2].tolist() == [0, 0, 0, 0]


@torch.no_grad()
def test_released_weights_join_each_still_with_the_video_of_the_other_side():
    right, mirrored = planner(), planner(mirrored_video_views=True)
    mirrored.load_state_dict(right.state_dict())
    video, still = draw(1, VIEWS, 11), draw(1, VIEWS, 7)
    by_hand = mirrored.view_fusion(torch.cat([video[:, [0, 5, 4, 3, 2, 1]], still], dim=-1))
    torch.testing.assert_close(mirrored.fuse_views(video, still), by_hand)
    found, expected = mirrored.fuse_views(video, still), right.fuse_views(video, still)
    same = (found - expected).abs().amax(dim=(0, 2)) < 1e-6
    assert same.tolist() == [True, False, False, True, False, False]


@torch.no_grad()
def test_padding_changes_nothing():
    model, inputs = planner(), inputs_of()
    expected = model(**inputs)
    longer = inputs | {
        "input_ids": torch.cat([inputs["input_ids"], torch.tensor([[7], [0]])], dim=1),
        "attention_mask": torch.tensor([[1] * 5 + [0]] * 2),
        "past_mask": torch.tensor([[True, True, False]] * 2),
        "candidate_mask": torch.tensor([[True] * 3 + [False]] * 2),
        "labels": torch.tensor([1, CANDIDATES + 1]),
    }
    for name in ("past_video_features", "past_still_features", "past_angle_features"):
        longer[name] = torch.cat([inputs[name], inputs[name][:, :1] + 3], dim=1)
    for name in ("candidate_views", "candidate_angles", "candidate_distances"):
        longer[name] = torch.cat([inputs[name], inputs[name][:, :1]], dim=1)
    outputs = model(**longer)
    assert (outputs.logits[:, CANDIDATES] == -math.inf).all()
    torch.testing.assert_close(outputs.logits[:, [0, 1, 2, 4]], expected.logits, atol=1e-5, rtol=1e-5)
    for name in ("loss", "value", "state"):
        torch.testing.assert_close(outputs[name], expected[name], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_step_can_take_over_words_and_history():
    model, inputs = planner(), inputs_of()
    expected = model(**inputs)
    past = [inputs.pop(f"past_{name}") for name in ("video_features", "still_features", "angle_features")]
    tokens = [model.embed_history(*(part[:, :1] for part in past))]
    tokens.append(model.embed_history(*(part[:, 1:] for part in past), first=1))
    assert [part.shape[1] for part in tokens] == [2, 1]
    inputs |= {"history_embeds": torch.cat(tokens, dim=1), "text_embeds": model.encode_text(inputs.pop("input_ids"))}
    found = model(**inputs)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)
    assert found.hidden_states is None


@torch.no_grad()
def test_both_directions_of_each_cross_layer_are_recorded():
    model = planner()
    model.set_attn_implementation("eager")
    scores = model(**inputs_of(), output_attentions=True).cross_attentions
    tokens = 1 + STEPS + CANDIDATES + 1 + VIEWS
    assert [tuple(part.shape[2:]) for part in scores] == [(WORDS, tokens), (tokens, WORDS)] * 2
    torch.testing.assert_close(scores[-1].sum(-1), torch.ones(2, HEADS, tokens))


def test_released_training_leaves_words_and_history_alone():
    model = planner()
    model.freeze_backbone()
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not trained & {"text_layers", "history_embeddings"}
    assert {"cross_layers", "observation_embeddings", "action_head", "critic", "view_fusion"} <= trained
    assert model.embeddings.token_type_embeddings.weight.requires_grad
    assert not model.embeddings.word_embeddings.weight.requires_grad


def test_missing_inputs_are_named():
    model, inputs = planner(), inputs_of()
    for name, message in (
        ("video_features", "video_features, still_features and depth_features"),
        ("candidate_angles", "candidate_views, candidate_angles and candidate_distances"),
        ("input_ids", "either as input_ids or as text_embeds"),
        ("past_still_features", "together, or none"),
    ):
        with pytest.raises(ValueError, match=message):
            model(**{key: value for key, value in inputs.items() if key != name})
    with pytest.raises(ValueError, match="either as history_embeds or as their features"):
        model(**inputs, history_embeds=torch.zeros(2, 3, WIDTH))
    with pytest.raises(ValueError, match="There are 5 past steps, and the model has positions for 4"):
        model(**inputs_of(steps=5))
