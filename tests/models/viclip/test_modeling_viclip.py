"""ViCLIP: joint space-time attention, masking in training only, a temperature with a floor."""

import pytest
import torch
from models.model_checks import (
    OPEN_SET_IN_FLOAT32,
    ExportedInAnother,
    ModelChecks,
    Tower,
    TowersAlone,
    assert_same,
    draw,
    move_from_start,
)
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModelForVideoClassification

from internvideo_hf import (
    ViCLIPConfig,
    ViCLIPForHandPrediction,
    ViCLIPForOpenSetClassification,
    ViCLIPForVideoClassification,
    ViCLIPModel,
    ViCLIPVisionConfig,
    ViCLIPVisionModel,
)
from internvideo_hf.auto import auto_class
from internvideo_hf.models.viclip.modeling_viclip import draw_mask

FRAMES, PATCHES, WIDTH, TEXT_WIDTH, SHARED = 2, 16, 16, 24, 20
START, END = 58, 59
IDS = torch.tensor([[START, 4, 5, END, 0, 0], [START, 7, 8, 9, 10, END], [START, 30, END, 0, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
VISION = {
    "hidden_size": WIDTH,
    "intermediate_size": 28,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "num_frames": FRAMES,
}
TEXT = {
    "vocab_size": 60,
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 12,
    "bos_token_id": START,
    "eos_token_id": END,
    "pad_token_id": 0,
}


def tiny_config(vision: dict | None = None, **changes) -> ViCLIPConfig:
    settings = {"vision_config": VISION | (vision or {}), "text_config": TEXT, "projection_dim": SHARED}
    # Far from the floor, so that noise on the temperature does not take it below.
    return ViCLIPConfig(**settings | {"temperature_init_value": 2.0} | changes)


def moved_model(vision: dict | None = None, **changes) -> ViCLIPModel:
    torch.manual_seed(0)
    return move_from_start(ViCLIPModel(tiny_config(vision, **changes)))


class TestViCLIPVisionModel(ExportedInAnother, ModelChecks):
    model_class = ViCLIPVisionModel
    input_embeddings = "embeddings.patch_embedding"

    def config(self):
        return ViCLIPVisionConfig(**VISION)

    def inputs(self):
        return {"pixel_values_videos": draw(3, FRAMES, 3, 32, 32)}

    def towers(self, outputs):
        tokens = 1 + FRAMES * PATCHES
        return [Tower(outputs, 3, (3, tokens, WIDTH), (3, 2, tokens, tokens))]


class TestViCLIPVisionModelOfTubelets(TestViCLIPVisionModel):
    frame_counts = ()  # for traced graphs; other counts have a test below

    def config(self):
        return ViCLIPVisionConfig(**VISION | {"tubelet_size": 2, "num_frames": 4})

    def towers(self, outputs):
        return [Tower(outputs, 3, (3, 1 + PATCHES, WIDTH), (3, 2, 1 + PATCHES, 1 + PATCHES))]


class TestViCLIPModel(TowersAlone, ModelChecks):
    model_class = ViCLIPModel
    input_embeddings = "text_model.embeddings.token_embedding"
    cancelling = {"logits_per_video": 0.5, "logits_per_text": 0.5}
    loss_over = "pairs"

    def config(self):
        return tiny_config()

    def inputs(self):
        videos = draw(3, FRAMES, 3, 32, 32)
        return {"pixel_values_videos": videos, "input_ids": IDS, "attention_mask": MASK, "return_loss": True}

    def towers(self, outputs):
        tokens = 1 + FRAMES * PATCHES
        return [
            Tower(outputs.video_model_output, 3, (3, tokens, WIDTH), (3, 2, tokens, tokens)),
            Tower(outputs.text_model_output, 2, (3, 6, TEXT_WIDTH), (3, 3, 6, 6)),
        ]


class TestViCLIPForVideoClassification(ExportedInAnother, ModelChecks):
    model_class = ViCLIPForVideoClassification
    in_float32 = ("loss",)
    auto_class = AutoModelForVideoClassification
    input_embeddings = "vision_model.embeddings.patch_embedding"
    fields_read_elsewhere = dict.fromkeys(
        ("text_config", "projection_dim", "temperature_min", "inference_scale"),
        "ViCLIPModel, whose folder this class loads",
    )
    loss_over = "samples"

    def config(self):
        return tiny_config(num_labels=5)

    def inputs(self):
        return {"pixel_values_videos": draw(3, FRAMES, 3, 32, 32), "labels": torch.tensor([4, 0, 2])}

    def towers(self, outputs):
        tokens = 1 + FRAMES * PATCHES
        return [Tower(outputs, 3, (3, tokens, WIDTH), (3, 2, tokens, tokens))]


class TestViCLIPForOpenSetClassification(TestViCLIPForVideoClassification):
    model_class = ViCLIPForOpenSetClassification
    in_float32 = OPEN_SET_IN_FLOAT32
    auto_class = auto_class("AutoModelForOpenSetClassification")

    def config(self):
        config = super().config()
        config.evidential = {"loss": "digamma", "evidence": "softplus"}
        return config


@pytest.mark.slow  # a head that other families have in the default suite
class TestViCLIPForHandPrediction(TestViCLIPForVideoClassification):
    model_class = ViCLIPForHandPrediction
    auto_class = auto_class("AutoModelForHandPrediction")

    def inputs(self):
        return super().inputs() | {"labels": 9 * draw(3, 5)}


# Time


@torch.no_grad()
def test_image_is_a_clip_of_one_frame_in_the_middle_of_all_times():
    model, image = moved_model({"num_frames": 6}), draw(2, 3, 32, 32)
    expected = model.get_video_features(image)
    assert_same(model.get_video_features(image[:, None]), expected)
    table = model.vision_model.embeddings.temporal_embedding
    table.copy_(table.mean(dim=0, keepdim=True).expand_as(table).clone())
    assert_same(model.get_video_features(image), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_fewer_frames_have_the_first_times_and_more_lie_between_them():
    embeddings = moved_model({"num_frames": 4}).vision_model.embeddings
    table = embeddings.temporal_embedding
    assert torch.equal(embeddings._times(4), table)
    assert torch.equal(embeddings._times(3), table[:3])
    assert torch.equal(embeddings._times(1)[0], table.mean(dim=0))
    for frames in (5, 8, 11):
        expected = torch.nn.functional.interpolate(table.T[None], size=frames, mode="linear", align_corners=False)
        torch.testing.assert_close(embeddings._times(frames), expected[0].T)


@torch.no_grad()
def test_order_of_frames_counts():
    model, videos = moved_model(), draw(2, 4, 3, 32, 32)
    forwards, backwards = (model.get_video_features(clips).pooler_output for clips in (videos, videos.flip(1)))
    assert not torch.allclose(forwards, backwards, atol=1e-3)


@torch.no_grad()
def test_patches_of_several_frames_take_their_multiples():
    model = moved_model({"tubelet_size": 2, "num_frames": 4})
    for frames in (2, 4, 6):
        outputs = model.get_video_features(draw(1, frames, 3, 32, 32))
        assert outputs.last_hidden_state.shape == (1, 1 + frames // 2 * PATCHES, WIDTH)
    with pytest.raises(ValueError, match="number of frames, 5, is not a multiple of the tubelet size 2"):
        model.get_video_features(draw(1, 5, 3, 32, 32))


# Masks


@torch.no_grad()
def test_nothing_is_left_out_in_evaluation_whatever_the_configuration_asks_for():
    videos = draw(2, FRAMES, 3, 32, 32)
    expected = moved_model().get_video_features(videos)
    assert_same(moved_model({"mask_ratio": 0.9}).get_video_features(videos), expected)


@torch.no_grad()
def test_training_leaves_out_what_is_asked_for_by_the_seed():
    model, videos = moved_model({"mask_ratio": 0.8}), draw(2, FRAMES, 3, 32, 32)
    torch.manual_seed(3)
    mask = draw_mask(2, FRAMES * PATCHES, 0.8)
    assert mask.sum(dim=1).tolist() == [25, 25]
    expected = model.get_video_features(videos, mask)
    assert expected.last_hidden_state.shape == (2, 1 + 32 - 25, WIDTH)
    torch.manual_seed(3)
    assert_same(model.train().get_video_features(videos), expected)
    assert moved_model().train().get_video_features(videos).last_hidden_state.shape[1] == 33


@torch.no_grad()
def test_a_patch_has_the_number_place_times_frames_plus_frame():
    model, videos = moved_model(), draw(1, FRAMES, 3, 32, 32)
    mask = torch.zeros(1, FRAMES * PATCHES, dtype=torch.bool)
    place, frame = 5, 1  # second row, second column; second frame
    mask[0, place * FRAMES + frame] = True
    other = videos.clone()
    other[:, frame, :, 8:16, 8:16] += 1
    assert_same(model.get_video_features(other, mask), model.get_video_features(videos, mask))
    assert not torch.allclose(
        model.get_video_features(other).pooler_output, model.get_video_features(videos).pooler_output
    )


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(2, 32), "float32"),
        (torch.zeros(2, 31, dtype=torch.bool), r"\(2, 31\), expected torch.bool of the shape \(2, 32\)"),
        (torch.arange(64).reshape(2, 32) < 3, "same number"),
        (torch.ones(2, 32, dtype=torch.bool), "hides all 32"),
    ],
)
def test_a_wrong_mask_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        moved_model().get_video_features(draw(2, FRAMES, 3, 32, 32), mask)


# Similarities, temperature and loss


@torch.no_grad()
def test_cosines_are_divided_by_the_temperature():
    model, videos = moved_model(), draw(2, FRAMES, 3, 32, 32)
    outputs = model(videos, IDS, MASK)
    video_embeds = normalize(model.get_video_features(videos).pooler_output, dim=-1)
    text_embeds = normalize(model.get_text_features(IDS, MASK).pooler_output, dim=-1)
    cosines = video_embeds @ text_embeds.T
    torch.testing.assert_close(outputs.logits_per_video, cosines / model.temperature)
    assert torch.equal(outputs.logits_per_text, outputs.logits_per_video.T)
    torch.testing.assert_close(model.logit_scale.exp(), 1 / model.temperature)
    assert outputs.loss is None


@torch.no_grad()
def test_the_fixed_scale_of_the_original_inference_code_is_for_evaluation_only():
    model, videos = moved_model(inference_scale=100.0), draw(2, FRAMES, 3, 32, 32)
    outputs = model(videos, IDS)
    torch.testing.assert_close(outputs.logits_per_video, 100 * outputs.video_embeds @ outputs.text_embeds.T)
    torch.testing.assert_close(model.logit_scale.exp(), torch.tensor(100.0))
    outputs = model.train()(videos, IDS)
    expected = outputs.video_embeds @ outputs.text_embeds.T / model.temperature
    torch.testing.assert_close(outputs.logits_per_video, expected)


def test_temperature_below_its_floor_is_lifted_in_training_and_can_rise_again():
    model, videos = moved_model(temperature_min=0.5), draw(3, FRAMES, 3, 32, 32)
    with torch.no_grad():
        model.temperature.fill_(0.1)
        outputs = model(videos, IDS)
        torch.testing.assert_close(outputs.logits_per_video, 2 * outputs.video_embeds @ outputs.text_embeds.T)
    assert model.temperature.item() == pytest.approx(0.1)
    model.train()(videos, IDS, return_loss=True).loss.backward()
    assert model.temperature.item() == 0.5
    assert model.temperature.grad.item() != 0


def test_a_name_of_version_0_1_still_works():
    model = moved_model()
    with torch.no_grad():
        model.temperature.fill_(1e-6)
    with pytest.warns(FutureWarning, match="clamp_temperature"):
        model.raise_temperature()
    assert model.temperature.item() == pytest.approx(model.config.temperature_min)


def test_fresh_temperature_is_the_configured_one():
    assert ViCLIPModel(tiny_config(temperature_init_value=0.07)).temperature.item() == pytest.approx(0.07)
    assert ViCLIPConfig().temperature_init_value == 0.01


def test_equal_captions_are_partners_of_each_others_videos():
    model, videos = moved_model(), draw(3, FRAMES, 3, 32, 32)
    outputs = model(videos, IDS[[0, 1, 0]], return_loss=True, caption_ids=torch.tensor([7, 2, 7]))
    table = outputs.logits_per_video
    target = torch.tensor([[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]])
    expected = (cross_entropy(table, target) + cross_entropy(table.T, target)) / 2
    torch.testing.assert_close(outputs.loss, expected)
    alone = model(videos, IDS, return_loss=True)
    torch.testing.assert_close(
        model(videos, IDS, return_loss=True, caption_ids=torch.arange(3)).loss, alone.loss, atol=1e-6, rtol=1e-6
    )


def test_training_and_evaluation_have_one_loss_in_one_process():
    model, videos = moved_model(), draw(3, FRAMES, 3, 32, 32)
    expected = model(videos, IDS, return_loss=True).loss
    torch.testing.assert_close(model.train()(videos, IDS, return_loss=True).loss, expected)


@pytest.mark.slow
def test_training_step_compiles_as_a_whole():
    model, videos = moved_model().train(), draw(3, FRAMES, 3, 32, 32)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    expected = model(videos, IDS, return_loss=True).loss
    torch.testing.assert_close(compiled(videos, IDS, return_loss=True).loss, expected)
    torch._dynamo.reset()


# Text


@torch.no_grad()
def test_padding_behind_the_end_of_a_text_changes_nothing():
    model = moved_model()
    short = torch.tensor([[START, 30, END]])
    expected = model.get_text_features(short).pooler_output
    for length in (4, 12):
        padded = torch.nn.functional.pad(short, (0, length - 3))
        actual = model.get_text_features(padded).pooler_output
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


# Loading one class out of the folder of another


@torch.no_grad()
def test_tower_and_classifier_load_out_of_a_folder_of_both_towers(tmp_path):
    model, videos = moved_model(), draw(2, FRAMES, 3, 32, 32)
    model.save_pretrained(tmp_path / "both")
    tower, info = ViCLIPVisionModel.from_pretrained(tmp_path / "both", output_loading_info=True)
    assert not any(info.values()), info
    assert_same(tower(videos), model.vision_model(videos))
    classifier, info = AutoModelForVideoClassification.from_pretrained(
        tmp_path / "both", num_labels=4, output_loading_info=True
    )
    assert info["missing_keys"] == {"classifier.weight", "classifier.bias"} and not info["unexpected_keys"]
    assert classifier(videos).logits.shape == (2, 4)
    classifier.save_pretrained(tmp_path / "classifier")
    again = ViCLIPVisionModel.from_pretrained(tmp_path / "classifier")
    assert_same(again(videos), tower(videos))


def test_soft_targets_are_taken():
    torch.manual_seed(0)
    model = move_from_start(ViCLIPForVideoClassification(tiny_config(num_labels=5)))
    targets = torch.tensor([[0.5, 0.5, 0, 0, 0], [0, 0, 0, 0, 1]])
    outputs = model(draw(2, FRAMES, 3, 32, 32), labels=targets)
    torch.testing.assert_close(outputs.loss, -(targets * outputs.logits.log_softmax(-1)).sum(-1).mean())
