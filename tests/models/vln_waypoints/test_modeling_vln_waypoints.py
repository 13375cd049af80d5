"""The predictor of waypoints: its neighbors, and the order of its heatmap."""

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

from internvideo_hf import VLNWaypointsConfig, VLNWaypointsModel
from internvideo_hf.models.vln_waypoints.modeling_vln_waypoints import neighbor_mask

VIEWS, WIDTH, HEADS = 6, 8, 2
CANDIDATES = ("distance_step", "max_candidates", "suppressed_angles", "suppressed_distances")


def tiny_config(**changes) -> VLNWaypointsConfig:
    sizes = {
        "depth_size": 3 * 2 * 2,
        "hidden_size": WIDTH,
        "intermediate_size": 10,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "num_views": VIEWS,
        "num_angles": 24,
        "num_distances": 5,
        "layer_norm_eps": 1e-6,
    }
    return VLNWaypointsConfig(**(sizes | changes))


class TestVLNWaypointsModel(ModelChecks):
    model_class = VLNWaypointsModel
    input_embeddings = "embedding"
    fields_read_elsewhere = dict.fromkeys(CANDIDATES, "read by the functions that pick places") | {
        "initializer_range": "read by transformers"
    }

    def config(self):
        return tiny_config()

    def inputs(self):
        return {"depth_features": draw(2, VIEWS, 3, 2, 2)}

    def towers(self, outputs):
        return [Tower(outputs, 2, (2, VIEWS, WIDTH), (2, HEADS, VIEWS, VIEWS))]

    @torch.no_grad()
    def test_other_frame_counts_and_sizes_are_taken(self) -> None:
        model, features = self.model(), draw(2, VIEWS, 3, 2, 2)
        assert torch.equal(model(features).logits, model(features.flatten(2)).logits)
        assert model(features[:1]).logits.shape == (1, 24, 5)

    def test_wrong_layouts_and_sizes_are_refused_with_what_would_fit(self) -> None:
        model, features = self.model(), draw(2, VIEWS, 3, 2, 2)
        for wrong in (features[:, 1:], features[:, :, 1:], features[0, 0, 0], features[0]):
            with pytest.raises(
                ValueError, match=rf"expected \(batch, {VIEWS}, \.\.\.\) with 12 numbers a view"
            ) as error:
                model(wrong)
            assert str(tuple(wrong.shape)) in str(error.value)

    @pytest.mark.slow
    def test_whole_graph_compiles_for_any_number_of_frames(self) -> None:
        assert_compiles(self.model(), [self.inputs()])

    @pytest.mark.slow
    @torch.no_grad()
    def test_exported_program_takes_other_batches_and_frame_counts(self) -> None:
        model, inputs = self.model(), self.inputs()
        exported = DynamoExporter().export(model, inputs, config=DynamoConfig(dynamic=True))
        bigger = {"depth_features": draw(3, VIEWS, 3, 2, 2)}
        assert_same(dict(exported(**bigger)), dict(model(**bigger)), atol=1e-5, rtol=1e-5)


def test_each_view_sees_itself_and_its_neighbors_around_the_circle():
    near = (neighbor_mask(torch.zeros(1, 5, 2))[0, 0] == 0).long()
    assert near.tolist() == [
        [1, 1, 0, 0, 1],
        [1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 1, 1, 1],
        [1, 0, 0, 1, 1],
    ]


@torch.no_grad()
def test_rows_turn_to_the_right_and_the_first_is_straight_ahead():
    torch.manual_seed(0)
    model, features = move_from_start(VLNWaypointsModel(tiny_config())), draw(1, VIEWS, 12)
    model.layers = torch.nn.ModuleList()
    # Without layers, a view determines its rows alone: four, from two before its middle on.
    before = model(features).logits
    changed = features.clone()
    changed[:, 1] += 1  # the view to the left of straight ahead
    moved = (model(changed).logits != before).any(dim=-1)[0]
    assert moved.nonzero()[:, 0].tolist() == [18, 19, 20, 21]  # of 24: 60 degrees to the left is row 20
    changed = features.clone()
    changed[:, 0] += 1
    moved = (model(changed).logits != before).any(dim=-1)[0]
    assert moved.nonzero()[:, 0].tolist() == [0, 1, 22, 23]
