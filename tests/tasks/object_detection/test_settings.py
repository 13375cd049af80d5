"""Which frames and which boxes count."""

import pytest
import torch

from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.inference.objects import Objects
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.object_detection.settings import boxes_in_pixels

NAME = "ego4d/state_change_detection"


def test_boxes_of_the_class_are_cut_to_the_frame_as_it_was_annotated():
    corners = torch.tensor([[0.5, 0.25, 1.5, 0.75], [0.0, 0.0, 0.5, 1.0], [-1.0, 0.0, 0.5, 0.5]])
    found = Objects(corners, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 2, 1]))
    assert boxes_in_pixels(found, [1], 200, 100).tolist() == [
        pytest.approx([100, 25, 100, 50, 0.9]),
        pytest.approx([0, 0, 100, 50, 0.7]),
    ]
    assert len(boxes_in_pixels(found, None, 200, 100)) == 3
    many = Objects(corners[:1].expand(200, 4), torch.ones(200), torch.ones(200, dtype=torch.int64))
    assert boxes_in_pixels(many, None, 200, 100).shape == (100, 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.frames.moments=[]"], "moments is empty"),
        (["data.frames.moments=[pre]"], "pre_frame"),
        (["data.frames.shortest_edge=[800, 400]"], "the least and the largest"),
        (["data.frames.flip=2"], "probability"),
        (["data.layout=msrvtt"], "data.layout changes nothing"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        load_protocol(NAME, changes)
