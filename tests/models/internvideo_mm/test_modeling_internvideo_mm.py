"""InternVideo-MM: two towers, one embedding space, initialization from CLIP."""

import pytest
import torch
from models.model_checks import ExportedInAnother, ModelChecks, Tower, TowersAlone, assert_same, draw, move_from_start
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.modeling_clip import image_text_contrastive_loss

from internvideo_hf import CheckpointError, InternVideoMMConfig, InternVideoMMModel, initialize_from_clip

FRAMES, PATCHES, WIDTH, TEXT_WIDTH, SHARED = 2, 16, 16, 24, 20
START, END = 58, 59
IDS = torch.tensor([[START, 4, 5, END, 0, 0], [START, 7, 8, 9, 10, END], [START, 30, END, 0, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
VISION = {
    "hidden_size": WIDTH,
    "intermediate_size": 28,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "global_layers": [0, 2],
    "num_global_attention_heads": 4,
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


def tiny_config(**changes) -> InternVideoMMConfig:
    return InternVideoMMConfig(**({"vision_config": VISION, "text_config": TEXT, "projection_dim": SHARED} | changes))


def moved_model(**changes) -> InternVideoMMModel:
    torch.manual_seed(0)
    return move_from_start(InternVideoMMModel(tiny_config(**changes)))


class TestInternVideoMMModel(TowersAlone, ExportedInAnother, ModelChecks):
    model_class = InternVideoMMModel
    input_embeddings = "text_model.embeddings.token_embedding"
    without_gradient = {"mask_embedding": "it stands for hidden words, and none is hidden"}
    drawn_by_transformers = {"text_model.encoder": "CLIP's own layers, in which no part may be missing"}
    # exp(2.66): the cosines of a random model are small differences of products
    cancelling = {"logits_per_video": 14.3, "logits_per_text": 14.3}
    loss_over = "pairs"
    fields_read_elsewhere = {
        "classifier_dropout": "the model of answers",
    }

    def config(self):
        return tiny_config()

    def inputs(self):
        videos = draw(3, FRAMES, 3, 32, 32)
        return {"pixel_values_videos": videos, "input_ids": IDS, "attention_mask": MASK, "return_loss": True}

    def towers(self, outputs):
        frames, tokens = 3 * FRAMES, 1 + PATCHES
        return [
            Tower(outputs.video_model_output, 3, (frames, tokens, WIDTH), (frames, 2, tokens, tokens)),
            Tower(outputs.text_model_output, 2, (3, 6, TEXT_WIDTH), (3, 3, 6, 6)),
        ]


# Similarities and the loss


@torch.no_grad()
def test_similarity_is_the_scaled_cosine_and_one_table_the_transpose_of_the_other():
    model, videos = moved_model(), draw(2, FRAMES, 3, 32, 32)
    outputs = model(videos, IDS, MASK)
    video_embeds = normalize(model.get_video_features(videos).pooler_output, dim=-1)
    text_embeds = normalize(model.get_text_features(IDS, MASK).pooler_output, dim=-1)
    assert_same([outputs.video_embeds, outputs.text_embeds], [video_embeds, text_embeds])
    cosines = (video_embeds[:, None] * text_embeds[None]).sum(-1)
    torch.testing.assert_close(outputs.logits_per_video, model.logit_scale.exp() * cosines)
    assert outputs.logits_per_video.shape == (2, 3)
    assert torch.equal(outputs.logits_per_text, outputs.logits_per_video.T)
    assert outputs.loss is None


@torch.no_grad()
def test_loss_is_the_mean_over_both_directions_of_naming_the_right_partner():
    outputs = moved_model()(draw(3, FRAMES, 3, 32, 32), IDS, MASK, return_loss=True)
    table = outputs.logits_per_video.double()
    by_hand = 0
    for i in range(3):
        by_hand -= (table[i, i].exp() / table[i].exp().sum()).log() / 6
        by_hand -= (table[i, i].exp() / table[:, i].exp().sum()).log() / 6
    torch.testing.assert_close(outputs.loss.double(), by_hand, atol=1e-6, rtol=1e-6)


def test_loss_is_the_formula_of_transformers_clip():
    outputs = moved_model()(draw(3, FRAMES, 3, 32, 32), IDS, MASK, return_loss=True)
    torch.testing.assert_close(outputs.loss, image_text_contrastive_loss(outputs.logits_per_text))


def test_fresh_temperature_is_the_configured_one():
    assert InternVideoMMModel(tiny_config(logit_scale_init_value=1.5)).logit_scale.item() == 1.5


# Video


@torch.no_grad()
def test_image_is_a_clip_of_one_frame():
    model, image = moved_model(), draw(2, 3, 32, 32)
    assert_same(model.get_video_features(image), model.get_video_features(image[:, None]))


@torch.no_grad()
def test_order_of_frames_counts():
    model, videos = moved_model(), draw(2, 4, 3, 32, 32)
    forwards, backwards = (model.get_video_features(clips).pooler_output for clips in (videos, videos.flip(1)))
    assert not torch.allclose(forwards, backwards, atol=1e-3)


# Text


@torch.no_grad()
def test_padding_behind_the_end_of_a_text_changes_nothing():
    model = moved_model()
    short = torch.tensor([[START, 30, END]])
    expected = model.get_text_features(short).pooler_output
    for length in (4, 12):
        padded = torch.nn.functional.pad(short, (0, length - 3))
        mask = (torch.arange(length) < 3)[None].long()
        for attention_mask in (None, mask):
            actual = model.get_text_features(padded, attention_mask).pooler_output
            torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    # The tokenizer itself would pad with the end-of-text token: the first one counts.
    repeated = torch.nn.functional.pad(short, (0, 2), value=END)
    torch.testing.assert_close(model.get_text_features(repeated).pooler_output, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_every_word_before_the_end_counts_and_none_after_it():
    model = moved_model()
    ids = torch.tensor([[START, 4, 5, END, 7, 8]])
    expected = model.get_text_features(ids).pooler_output
    for position in range(6):
        changed = ids.clone()
        changed[0, position] = 20 if position != 3 else 57  # with 57 the largest id is still there
        same = torch.allclose(model.get_text_features(changed).pooler_output, expected, atol=1e-5)
        assert same == (position > 3), position


@torch.no_grad()
def test_masked_words_are_replaced_by_the_mask_embedding():
    model = moved_model()
    hidden = torch.zeros_like(IDS, dtype=torch.bool)
    hidden[0, 1] = hidden[1, 2:4] = True
    masked = model.get_text_features(IDS, MASK, bool_masked_pos=hidden)
    assert not torch.allclose(masked.pooler_output[:2], model.get_text_features(IDS, MASK).pooler_output[:2])
    other_words = torch.where(hidden, 40, IDS)
    assert_same(model.get_text_features(other_words, MASK, bool_masked_pos=hidden), masked)
    # The same through a word of the vocabulary that looks like the mask.
    model.text_model.embeddings.token_embedding.weight[50] = model.text_model.embeddings.mask_embedding
    looks_masked = torch.where(hidden, 50, IDS)
    assert_same(model.get_text_features(looks_masked, MASK), masked, atol=1e-6, rtol=1e-6)
    nothing = model.get_text_features(IDS, MASK, bool_masked_pos=torch.zeros_like(hidden))
    assert_same(nothing, model.get_text_features(IDS, MASK))


@torch.no_grad()
def test_feature_is_read_at_the_end_of_text_even_where_that_is_masked():
    model = moved_model()
    hidden = IDS == END
    outputs = model.get_text_features(IDS, MASK, bool_masked_pos=hidden)
    at_the_end = outputs.last_hidden_state[torch.arange(3), torch.tensor([3, 5, 2])]
    torch.testing.assert_close(outputs.pooler_output, model.text_projection(at_the_end))


def test_gradient_reaches_the_mask_embedding_through_masked_words():
    model = moved_model()
    model.get_text_features(IDS, bool_masked_pos=IDS == 5).pooler_output.square().sum().backward()
    assert model.text_model.embeddings.mask_embedding.grad.any()
    hidden_word = model.text_model.embeddings.token_embedding.weight.grad[5]
    assert not hidden_word.any()


# Towers without a shared space


@torch.no_grad()
def test_towers_without_projections_give_their_own_widths_and_refuse_to_be_compared(tmp_path):
    model, videos = moved_model(projection_dim=None), draw(3, FRAMES, 3, 32, 32)
    tower = model.vision_model(videos)
    video_feature = model.get_video_features(videos).pooler_output
    torch.testing.assert_close(video_feature, model.post_layernorm(tower.pooler_output))
    assert model.get_text_features(IDS, MASK).pooler_output.shape == (3, TEXT_WIDTH)
    assert not any("projection" in name for name in model.state_dict())
    with pytest.raises(ValueError, match="projection_dim=None"):
        model(videos, IDS, MASK)
    model.save_pretrained(tmp_path)
    loaded = InternVideoMMModel.from_pretrained(tmp_path)
    assert loaded.config.projection_dim is None
    assert_same(loaded.get_video_features(videos).pooler_output, video_feature)


# The start from CLIP: the layer norm behind the tower has an epsilon, and the video side comes at half its length
# (the gate is half open, the global blocks are silent), so that the epsilon counts four times as much.

FROM_CLIP = {"atol": 1e-4, "rtol": 1e-4}


def tiny_clip(width: int = 128, text_width: int = 64) -> CLIPModel:
    """Return a CLIP model with 64 channels a head, as OpenAI's, which is all that its files do not tell."""
    vision = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": 5, "image_size": 32}
    vision |= {"num_attention_heads": width // 64, "patch_size": 8}
    text = {**TEXT, "hidden_size": text_width, "intermediate_size": 4 * text_width}
    text["num_attention_heads"] = text_width // 64
    torch.manual_seed(0)
    return move_from_start(CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=SHARED)))


def openai_layout(clip: CLIPModel) -> dict[str, torch.Tensor]:
    """Return the tensors of a CLIP model under OpenAI's names."""
    weights = clip.state_dict()
    vision, text = "vision_model", "text_model"
    result = {
        "visual.class_embedding": weights[f"{vision}.embeddings.class_embedding"],
        "visual.conv1.weight": weights[f"{vision}.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": weights[f"{vision}.embeddings.position_embedding.weight"],
        "visual.proj": weights["visual_projection.weight"].T,
        "token_embedding.weight": weights[f"{text}.embeddings.token_embedding.weight"],
        "positional_embedding": weights[f"{text}.embeddings.position_embedding.weight"],
        "text_projection": weights["text_projection.weight"].T,
        "logit_scale": weights["logit_scale"],
        "input_resolution": torch.tensor(32),
        "context_length": torch.tensor(TEXT["max_position_embeddings"]),
        "vocab_size": torch.tensor(TEXT["vocab_size"]),
    }
    modules = {
        "visual.ln_pre": f"{vision}.pre_layrnorm",
        "visual.ln_post": f"{vision}.post_layernorm",
        "ln_final": f"{text}.final_layer_norm",
    }
    towers = {"visual.transformer": (f"{vision}.encoder.layers", 5), "transformer": (f"{text}.encoder.layers", 2)}
    for released, (layers, count) in towers.items():
        for index in range(count):
            block, layer = f"{released}.resblocks.{index}", f"{layers}.{index}"
            modules |= {
                f"{block}.ln_1": f"{layer}.layer_norm1",
                f"{block}.ln_2": f"{layer}.layer_norm2",
                f"{block}.attn.out_proj": f"{layer}.self_attn.out_proj",
                f"{block}.mlp.c_fc": f"{layer}.mlp.fc1",
                f"{block}.mlp.c_proj": f"{layer}.mlp.fc2",
            }
            for kind in ("weight", "bias"):
                parts = [weights[f"{layer}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
                result[f"{block}.attn.in_proj_{kind}"] = torch.cat(parts)
    for released, module in modules.items():
        result |= {f"{released}.{kind}": weights[f"{module}.{kind}"] for kind in ("weight", "bias")}
    return result


def test_text_tower_starts_as_clips_does():
    torch.manual_seed(0)
    layers = InternVideoMMModel(tiny_config()).text_model.encoder.layers
    for layer in layers:  # the deviations of CLIP's code: 1/sqrt(width), by 1/sqrt(2 layers) where it adds to a sum
        narrow = TEXT_WIDTH**-0.5 * (2 * len(layers)) ** -0.5
        expected = {layer.self_attn.k_proj: narrow, layer.self_attn.out_proj: TEXT_WIDTH**-0.5}
        expected |= {layer.mlp.fc1: (2 * TEXT_WIDTH) ** -0.5, layer.mlp.fc2: narrow}
        for linear, deviation in expected.items():
            assert linear.weight.std().item() == pytest.approx(deviation, rel=0.15)


@torch.no_grad()
def test_model_started_from_a_transformers_clip_is_that_clip_for_images_and_texts():
    clip, images = tiny_clip(), draw(2, 3, 32, 32)
    model = initialize_from_clip(clip)
    assert not model.training
    assert list(model.config.vision_config.global_layers) == [1, 2, 3, 4]
    expected = clip.get_image_features(images).pooler_output
    torch.testing.assert_close(model.get_video_features(images).pooler_output, expected, **FROM_CLIP)
    expected = clip.get_text_features(input_ids=IDS, attention_mask=MASK).pooler_output
    torch.testing.assert_close(model.get_text_features(IDS, MASK).pooler_output, expected, atol=1e-5, rtol=1e-5)
    similarities = clip(input_ids=IDS, attention_mask=MASK, pixel_values=images).logits_per_image
    torch.testing.assert_close(model(images, IDS, MASK).logits_per_video, similarities, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_still_clip_is_the_image_that_it_repeats_right_after_the_start():
    clip, images = tiny_clip(), draw(2, 3, 32, 32)
    still = images[:, None].expand(-1, 4, -1, -1, -1)
    expected = clip.get_image_features(images).pooler_output
    actual = initialize_from_clip(clip).get_video_features(still).pooler_output
    torch.testing.assert_close(actual, expected, **FROM_CLIP)


@torch.no_grad()
def test_openai_file_and_transformers_model_of_the_same_clip_give_the_same_model(tmp_path):
    clip, images = tiny_clip(), draw(2, 3, 32, 32)
    path = tmp_path / "ViT-tiny.pt"
    torch.save(openai_layout(clip), path)
    from_model, from_file = initialize_from_clip(clip), initialize_from_clip(path)
    carried_over = ("vision_model.global_blocks.", "text_model.embeddings.mask_embedding")

    def of_clip(model):
        return {name: t for name, t in model.state_dict().items() if not name.startswith(carried_over)}

    assert_same(of_clip(from_file), of_clip(from_model))
    for part in ("vision_config", "text_config"):
        of_file, of_model = (getattr(model.config, part).to_dict() for model in (from_file, from_model))
        sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act")
        assert {key: of_file[key] for key in sizes} == {key: of_model[key] for key in sizes}
    assert_same(from_file(images, IDS, MASK), from_model(images, IDS, MASK))


@torch.no_grad()
def test_model_started_from_clip_is_saved_and_loaded_like_any_other(tmp_path):
    model = initialize_from_clip(tiny_clip(), vision_config={"global_layers": [0, 4], "num_frames": 4})
    model.save_pretrained(tmp_path)
    loaded = InternVideoMMModel.from_pretrained(tmp_path)
    assert (list(loaded.config.vision_config.global_layers), loaded.config.vision_config.num_frames) == ([0, 4], 4)
    assert_same(loaded.state_dict(), model.state_dict())


def test_clip_with_a_tensor_missing_or_too_many_is_refused():
    weights = openai_layout(tiny_clip())
    for missing in ("visual.ln_pre.weight", "transformer.resblocks.1.ln_2.bias", "visual.proj"):
        with pytest.raises(CheckpointError, match=missing):
            initialize_from_clip({name: tensor for name, tensor in weights.items() if name != missing})
    with pytest.raises(CheckpointError, match="visual.attnpool.positional_embedding"):
        initialize_from_clip({**weights, "visual.attnpool.positional_embedding": torch.ones(2)})


def test_a_name_of_version_0_1_still_works():
    model = InternVideoMMModel(tiny_config())
    with torch.no_grad():
        model.logit_scale.fill_(100.0)
    with pytest.warns(FutureWarning, match="clamp_temperature"):
        model.clamp_logit_scale()
    assert model.logit_scale.exp() <= 100.1
