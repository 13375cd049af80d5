"""Layer groups: complete, ordered, frozen, and loaded from another model."""

import pytest
import torch
from models.internvideo_mae.test_modeling_internvideo_mae import tiny_config as mae_config
from models.internvideo_mm.test_modeling_internvideo_mm import tiny_config as mm_config
from models.model_checks import draw, move_from_start
from models.uniformerv2.test_modeling_uniformerv2 import tiny_config as uniformer_config
from models.viclip.test_modeling_viclip import tiny_config as viclip_config

from internvideo_hf import (
    InternVideoMAEForPreTraining,
    InternVideoMAEForVideoClassification,
    InternVideoMAEModel,
    InternVideoMMModel,
    UniFormerV2ForVideoClassification,
    UniFormerV2Model,
    ViCLIPForVideoClassification,
    ViCLIPModel,
    ViCLIPVisionModel,
)

MODELS = {
    "UniFormerV2Model": lambda: UniFormerV2Model(uniformer_config()),
    "UniFormerV2ForVideoClassification": lambda: UniFormerV2ForVideoClassification(
        uniformer_config(num_labels=5, num_local_blocks=2)
    ),
    "InternVideoMAEModel": lambda: InternVideoMAEModel(mae_config()),
    "InternVideoMAEForPreTraining": lambda: InternVideoMAEForPreTraining(
        mae_config(use_mean_pooling=False, position_embedding_type="learned", layer_scale_init_value=0.1)
    ),
    "InternVideoMAEForVideoClassification": lambda: InternVideoMAEForVideoClassification(mae_config()),
    "InternVideoMMModel": lambda: InternVideoMMModel(mm_config()),
    "ViCLIPModel": lambda: ViCLIPModel(viclip_config()),
    "ViCLIPVisionModel": lambda: ViCLIPVisionModel(viclip_config().vision_config),
    "ViCLIPForVideoClassification": lambda: ViCLIPForVideoClassification(viclip_config()),
}


def uniformer(seed: int = 0, **changes) -> UniFormerV2ForVideoClassification:
    torch.manual_seed(seed)
    sizes = {"num_labels": 5, "num_local_blocks": 1, "drop_path_rate": 0.5} | changes
    return move_from_start(UniFormerV2ForVideoClassification(uniformer_config(**sizes)), seed)


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_is_in_one_group(name):
    model = MODELS[name]()
    tensors = [tensor for group in model.layer_groups().values() for tensor in group]
    assert sorted(tensors) == sorted(model.state_dict())


def test_groups_go_from_the_input_to_the_head():
    assert list(uniformer().layer_groups()) == [
        "embeddings",
        *(f"layers.{index}" for index in range(3)),
        *(f"global_blocks.{index}" for index in range(2)),
        "fusion",
        "head",
    ]
    classifier = InternVideoMAEForVideoClassification(mae_config(num_hidden_layers=11))
    assert list(classifier.layer_groups()) == ["embeddings", *(f"layers.{index}" for index in range(11)), "head"]
    groups = list(InternVideoMMModel(mm_config()).layer_groups())
    assert groups[0] == "vision.embeddings" and groups[-3:] == ["head.vision", "head.text", "head.scale"]
    assert groups.index("vision.fusion") < groups.index("text.embeddings") < groups.index("text.layers.0")


def test_groups_do_not_depend_on_what_stands_around_the_encoder():
    bare, headed = UniFormerV2Model(uniformer_config()), UniFormerV2ForVideoClassification(uniformer_config())
    expected = {group: [f"vision_model.{name}" for name in names] for group, names in bare.layer_groups().items()}
    found = headed.layer_groups()
    assert sorted(found.pop("head")) == ["classifier.bias", "classifier.weight", "layernorm.bias", "layernorm.weight"]
    assert found == expected


@pytest.mark.parametrize(
    ("name", "trained"),
    [
        ("UniFormerV2ForVideoClassification", {"global_blocks.0", "global_blocks.1", "fusion", "head"}),
        ("InternVideoMAEForVideoClassification", {"head"}),
        ("InternVideoMAEForPreTraining", {"decoder", "head"}),
        ("InternVideoMMModel", {"head.vision", "head.text", "head.scale"}),
        ("ViCLIPModel", {"head.vision", "head.text", "head.scale"}),
        ("ViCLIPForVideoClassification", {"head"}),
        ("ViCLIPVisionModel", {"norm"}),
    ],
)
def test_backbone_is_the_embedding_and_the_layers(name, trained):
    model = MODELS[name]()
    model.freeze_backbone()
    parameters = dict(model.named_parameters())
    for group, names in model.layer_groups().items():
        flags = {parameters[tensor].requires_grad for tensor in names if tensor in parameters}
        assert flags == {group in trained}, group


def test_named_groups_are_frozen_on_top_of_what_was():
    model = uniformer()
    model.freeze_backbone("embeddings")
    model.freeze_backbone("layers.1", "global_blocks")
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    parts = ("embeddings.", "pre_layernorm.", "layers.1.", "global_blocks.")
    assert frozen == {
        name for name, _ in model.named_parameters() if name.removeprefix("vision_model.").startswith(parts)
    }


def test_unknown_group_lists_the_known():
    with pytest.raises(ValueError, match="No group 'layer' in UniFormerV2ForVideo.*embeddings, layers.0.*head"):
        uniformer().freeze_backbone("layer")


def test_frozen_groups_stay_in_evaluation_with_their_statistics():
    model = uniformer()
    model.freeze_backbone()
    model.train()
    tower = model.vision_model
    assert model.training and model.dropout.training and tower.global_blocks[0].training
    assert not any(module.training for layer in tower.layers for module in layer.modules())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model(draw(2, 2, 3, 32, 32))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.eval()
    assert not any(module.training for module in model.modules())


def test_groups_are_taken_over_from_another_model():
    source, target = uniformer(seed=1), uniformer(seed=2, num_labels=3)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    target.load_layer_groups(source)
    given = source.state_dict()
    for group, names in target.layer_groups().items():
        for name in names:
            assert torch.equal(target.state_dict()[name], before[name] if group == "head" else given[name]), name


def test_named_groups_alone_are_taken_over_also_from_an_encoder_without_a_head():
    source, target = uniformer(seed=1), uniformer(seed=2)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    target.load_layer_groups(source.vision_model, "layers.0")
    changed = {name for name, tensor in target.state_dict().items() if not torch.equal(tensor, before[name])}
    layer = set(target.layer_groups()["layers.0"])
    assert changed <= layer and {name for name in layer if name.endswith("weight")} <= changed
    assert torch.equal(target.vision_model.layers[0].mlp.fc1.weight, source.vision_model.layers[0].mlp.fc1.weight)


def test_groups_that_do_not_fit_change_nothing():
    target = uniformer(seed=2)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(ValueError, match=r"local_block1.* is missing in the UniFormerV2ForVideoClassification given"):
        target.load_layer_groups(uniformer(num_local_blocks=0))
    with pytest.raises(ValueError, match=r"classifier.weight has the shape \(3, 16\).*expected \(5, 16\)"):
        target.load_layer_groups(uniformer(num_labels=3), "layers", "head")
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_towers_and_what_holds_them_exchange_their_groups():
    tower, dual, classifier = (
        MODELS[f"ViCLIP{name}"]() for name in ("VisionModel", "Model", "ForVideoClassification")
    )
    for model in (tower, dual, classifier):
        move_from_start(model)
    tower.load_layer_groups(dual)
    video = draw(2, 2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(tower(video).pooler_output, dual.vision_model(video).pooler_output)
    classifier.load_layer_groups(move_from_start(tower, seed=3))
    dual.load_layer_groups(classifier, "vision")
    for model in (classifier, dual):
        for name, tensor in tower.state_dict().items():
            assert torch.equal(model.vision_model.state_dict()[name], tensor), name
    with pytest.raises(ValueError, match="text_model.* is missing"):
        dual.load_layer_groups(tower)
    with pytest.raises(ValueError, match="A Linear names no groups"):
        dual.load_layer_groups(torch.nn.Linear(2, 2))
