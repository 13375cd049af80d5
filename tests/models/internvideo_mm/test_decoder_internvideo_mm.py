"""The caption decoder: captions, generation with and without a cache, answers to questions."""

import pytest
import torch
from models.internvideo_mm.test_modeling_internvideo_mm import (
    END,
    FRAMES,
    IDS,
    MASK,
    PATCHES,
    START,
    TEXT,
    TEXT_WIDTH,
    VISION,
    WIDTH,
    tiny_config,
)
from models.model_checks import ExportedInAnother, ModelChecks, Tower, assert_same, draw, move_from_start
from torch.nn.functional import cross_entropy
from transformers import AutoModel, AutoModelForMultimodalLM, AutoModelForVisualQuestionAnswering

from internvideo_hf import (
    InternVideoMMConfig,
    InternVideoMMForConditionalGeneration,
    InternVideoMMForQuestionAnswering,
    InternVideoMMModel,
)
from internvideo_hf.models.internvideo_mm.decoder_internvideo_mm import rotate, rotation_at

DECODER = {
    "hidden_size": TEXT_WIDTH,
    "encoder_hidden_size": WIDTH,
    "intermediate_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_visual_queries": 5,
}
CLIPS = draw(3, FRAMES, 3, 32, 32)


def caption_config(**changes) -> InternVideoMMConfig:
    return tiny_config(decoder_config=DECODER | changes)


def caption_model(**options) -> InternVideoMMForConditionalGeneration:
    torch.manual_seed(0)
    return move_from_start(InternVideoMMForConditionalGeneration._from_config(caption_config(), **options))


class TestInternVideoMMForConditionalGeneration(ModelChecks):
    model_class = InternVideoMMForConditionalGeneration
    auto_class = AutoModelForMultimodalLM
    input_embeddings = "text_model.embeddings.token_embedding"
    without_gradient = {"mask_embedding": "it stands for hidden words, and none is hidden"}
    drawn_by_transformers = {"text_model.encoder": "CLIP's own layers, in which no part may be missing"}
    cancelling = {"logits_per_video": 14.3, "logits_per_text": 14.3}
    loss_over = "pairs"
    in_float32 = ("loss", "caption_loss")
    fields_read_elsewhere = {"classifier_dropout": "the model of answers"}

    def config(self):
        return caption_config()

    def inputs(self):
        return {"pixel_values_videos": CLIPS, "input_ids": IDS, "attention_mask": MASK, "return_loss": True}

    def towers(self, outputs):
        frames, tokens = 3 * FRAMES, 1 + PATCHES
        return [
            Tower(outputs.video_model_output, 3, (frames, tokens, WIDTH), (frames, 2, tokens, tokens)),
            Tower(outputs.text_model_output, 2, (3, 6, TEXT_WIDTH), (3, 3, 6, 6)),
        ]


class TestInternVideoMMForQuestionAnswering(ExportedInAnother, ModelChecks):
    model_class = InternVideoMMForQuestionAnswering
    auto_class = AutoModelForVisualQuestionAnswering
    input_embeddings = "text_model.embeddings.token_embedding"
    without_gradient = {"mask_embedding": "it stands for hidden words, and none is hidden"}
    drawn_by_transformers = {"text_model.encoder": "CLIP's own layers, in which no part may be missing"}
    loss_over = "samples"
    in_float32 = ("loss",)
    fields_read_elsewhere = {"projection_dim": "the dual encoder"}

    def config(self):
        return tiny_config(decoder_config=DECODER, projection_dim=None, num_labels=7)

    def inputs(self):
        labels = torch.tensor([1, 6, 0])
        return {"pixel_values_videos": CLIPS, "input_ids": IDS, "attention_mask": MASK, "labels": labels}

    def towers(self, outputs):
        return TestInternVideoMMForConditionalGeneration().towers(outputs)


# Parts


def test_rotary_positions_turn_pairs_of_channels_by_the_angle_of_their_wavelength():
    tokens = draw(1, 2, 3, 6)
    turned = rotate(tokens, rotation_at(torch.tensor([0, 4, 9]), 6, 100.0))
    for place, position in enumerate((0, 4, 9)):
        for pair in range(3):
            angle = torch.tensor(position * 100.0 ** (-2 * pair / 6))
            expected = torch.complex(tokens[0, :, place, pair], tokens[0, :, place, pair + 3]) * torch.polar(
                torch.tensor(1.0), angle
            )
            torch.testing.assert_close(turned[0, :, place, pair], expected.real)
            torch.testing.assert_close(turned[0, :, place, pair + 3], expected.imag)


@torch.no_grad()
def test_a_token_sees_no_later_one_and_no_other_clip():
    model = caption_model()
    logits = model(CLIPS, IDS).logits
    changed = IDS.clone()
    changed[:, 3:] = 11
    torch.testing.assert_close(model(CLIPS, changed).logits[:, :3], logits[:, :3])
    other = model(torch.cat([CLIPS[:1], draw(2, FRAMES, 3, 32, 32, seed=1)]), IDS).logits
    torch.testing.assert_close(other[0], logits[0])
    assert not torch.allclose(other[1], logits[1])


@torch.no_grad()
def test_marked_tokens_are_those_that_the_last_global_block_reads():
    torch.manual_seed(0)
    model = move_from_start(InternVideoMMForConditionalGeneration(caption_config(mark_positions=True)))
    tower = model.vision_model
    context = tower.encode_frames(CLIPS).contexts[-1]
    tokens = tower(CLIPS).last_hidden_state
    torch.testing.assert_close(tower.mark_positions(tokens, 32, 32), context)
    assert not torch.allclose(tokens, context)
    expected = model.caption_decoder.pooler(context)
    torch.testing.assert_close(model.get_visual_tokens(CLIPS), expected)
    logits = model(CLIPS, IDS).logits
    torch.testing.assert_close(model(input_ids=IDS, visual_tokens=expected).logits, logits)


def test_tokens_are_marked_by_a_block_behind_the_last_layer_alone():
    with pytest.raises(Exception, match="global block behind the last layer"):
        tiny_config(vision_config=VISION | {"global_layers": [0]}, decoder_config=DECODER | {"mark_positions": True})


# Losses


@torch.no_grad()
def test_the_caption_loss_predicts_each_token_from_those_before_it_and_no_padding():
    model = caption_model()
    outputs = model(CLIPS, IDS, MASK, return_loss=True)
    terms = [
        cross_entropy(outputs.logits[row, place - 1], IDS[row, place])
        for row in range(3)
        for place in range(1, 6)
        if MASK[row, place]
    ]
    torch.testing.assert_close(outputs.caption_loss, torch.stack(terms).mean())
    torch.testing.assert_close(outputs.loss, outputs.caption_loss + outputs.contrastive_loss)
    dual = InternVideoMMModel(tiny_config())
    dual.load_state_dict(model.state_dict(), strict=False)
    torch.testing.assert_close(outputs.contrastive_loss, dual.eval()(CLIPS, IDS, MASK, return_loss=True).loss)


@torch.no_grad()
def test_labels_of_one_s_own_replace_those_of_the_text():
    model = caption_model()
    labels = torch.full_like(IDS, -100)
    assert model(CLIPS, IDS, labels=labels).caption_loss == 0
    labels[1, 2] = 7
    outputs = model(CLIPS, IDS, labels=labels)
    torch.testing.assert_close(outputs.loss, cross_entropy(outputs.logits[1, 1], torch.tensor(7)))
    assert outputs.contrastive_loss is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_ids": IDS}, "no clips"),
        ({"pixel_values_videos": CLIPS}, "no text"),
        ({"pixel_values_videos": CLIPS[:2], "input_ids": IDS}, "2 videos and 3 texts"),
    ],
)
def test_missing_or_unpaired_inputs_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        caption_model()(**arguments)


def test_cached_gradients_are_refused_since_they_keep_no_tokens():
    model = caption_model().train()
    model.grad_cache = 2
    with pytest.raises(ValueError, match="grad_cache"):
        model(CLIPS, IDS, return_loss=True)


# Generation


@torch.no_grad()
def greedy(model: InternVideoMMForConditionalGeneration, length: int) -> torch.Tensor:
    """Write captions by hand: each next token is the best behind the text so far, with nothing remembered."""
    ids = torch.full((len(CLIPS), 1), START)
    ended = torch.zeros(len(CLIPS), dtype=torch.bool)
    while ids.shape[1] < length and not ended.all():
        best = model(CLIPS, ids).logits[:, -1].argmax(dim=-1).masked_fill(ended, 0)
        ids = torch.cat([ids, best[:, None]], dim=1)
        ended |= best == END
    return ids


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_greedy_generation_is_the_best_token_each_time(implementation):
    model = caption_model(attn_implementation=implementation)
    assert torch.equal(model.generate(CLIPS, max_length=12), greedy(model, 12))


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "top_k": 5}], ids=str)
def test_the_cache_changes_no_caption(options):
    model = caption_model()
    torch.manual_seed(1)
    cached = model.generate(CLIPS, max_length=12, **options)
    torch.manual_seed(1)
    assert torch.equal(cached, model.generate(CLIPS, max_length=12, use_cache=False, **options))


@torch.no_grad()
def test_logits_with_a_cache_are_those_without_it_in_steps_of_any_length():
    model = caption_model()
    visual_tokens = model.get_visual_tokens(CLIPS)
    expected = model(CLIPS, IDS).logits
    assert_same({"logits": model(input_ids=IDS, visual_tokens=visual_tokens).logits}, {"logits": expected}, 1e-5, 1e-5)
    for lengths in ([1] * 6, [3, 3], [2, 1, 3]):
        cache, parts = None, []
        for part in IDS.split(lengths, dim=1):
            outputs = model(input_ids=part, visual_tokens=visual_tokens, cache=cache, use_cache=True)
            cache = outputs.cache
            parts.append(outputs.logits)
        torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=1e-5, rtol=1e-5)


def test_a_caption_stops_behind_its_end_and_goes_on_from_a_beginning():
    model = caption_model()
    with torch.no_grad():
        model.caption_head.fc2.bias[END] += 100
    assert torch.equal(model.generate(CLIPS), torch.tensor([[START, END]] * 3))
    beginning = IDS[:2, :3]
    assert torch.equal(model.generate(CLIPS[:2], beginning), torch.cat([beginning, torch.full((2, 1), END)], dim=1))
    with pytest.raises(ValueError, match="padded"):
        model.generate(CLIPS, IDS, attention_mask=MASK)


def test_beginnings_come_with_their_end_or_one_for_all():
    model = caption_model()
    beginning = IDS[:1, :3]
    expected = model.generate(CLIPS, beginning.expand(3, -1), max_length=8)
    assert torch.equal(model.generate(CLIPS, beginning, max_length=8), expected)
    with_end = torch.cat([beginning, torch.tensor([[END]])], dim=1)
    assert torch.equal(model.generate(CLIPS, with_end, max_new_tokens=5), expected)
    with pytest.raises(ValueError, match="3 clips and 2 beginnings"):
        model.generate(CLIPS, IDS[:2, :3])
    for option in ({"output_attentions": True}, {"cache_implementation": "static"}):
        with pytest.raises(ValueError, match=f"generate has no {next(iter(option))}"):
            model.generate(CLIPS, **option)


def test_a_caption_is_as_long_as_the_table_of_positions_at_most():
    model = caption_model()
    with torch.no_grad():
        model.caption_head.fc2.bias[END] -= 100
    assert model.generate(CLIPS).shape == (3, TEXT["max_position_embeddings"])
    with pytest.raises(ValueError, match="at most 12"):
        model.generate(CLIPS, max_new_tokens=20)


# Folders


def test_one_folder_holds_the_dual_encoder_too(tmp_path):
    model = caption_model()
    model.save_pretrained(tmp_path)
    dual, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(dual) is InternVideoMMModel
    assert not any(info.values()), info
    for name, tensor in dual.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_a_configuration_without_a_decoder_or_with_another_width_is_refused():
    with pytest.raises(ValueError, match="no decoder_config"):
        InternVideoMMForConditionalGeneration(tiny_config())
    with pytest.raises(Exception, match="text_config.hidden_size=24"):
        caption_config(hidden_size=32)
    with pytest.raises(Exception, match="vision_config.hidden_size=16"):
        caption_config(encoder_hidden_size=18)
    with pytest.raises(Exception, match="num_attention_heads"):
        caption_config(num_attention_heads=5)
    assert VISION["hidden_size"] == WIDTH


# Answers


def answer_model() -> InternVideoMMForQuestionAnswering:
    torch.manual_seed(0)
    return move_from_start(InternVideoMMForQuestionAnswering(TestInternVideoMMForQuestionAnswering().config()))


@torch.no_grad()
def test_one_clip_serves_all_questions():
    model = answer_model()
    together = model(CLIPS[:1], IDS).logits
    torch.testing.assert_close(together, model(CLIPS[:1].expand(3, -1, -1, -1, -1), IDS).logits)
    with pytest.raises(ValueError, match="2 clips and 3 questions"):
        model(CLIPS[:2], IDS)


@torch.no_grad()
def test_answers_outside_the_list_do_not_count_and_a_batch_of_them_is_no_nan():
    model = answer_model()
    logits = model(CLIPS, IDS).logits
    labels = torch.tensor([2, -100, 5])
    expected = cross_entropy(logits[[0, 2]], labels[[0, 2]])
    torch.testing.assert_close(model(CLIPS, IDS, labels=labels).loss, expected)
    assert model(CLIPS, IDS, labels=torch.full((3,), -100)).loss == 0


def test_the_head_is_what_a_fine_tuning_starts_from_nothing():
    groups = answer_model().layer_groups()
    assert {name.split(".")[0] for name in groups["head"]} == {"classifier"}
    assert list(groups)[-1] == "head"
