"""VSLNet: its parts beside sums in numpy, padding, words, long videos, and that it learns."""

import numpy as np
import pytest
import torch
from models.model_checks import ModelChecks, assert_same, draw, gradients, move_from_start, present
from transformers.exporters import DynamoConfig, DynamoExporter

from internvideo_hf import VSLNetConfig, VSLNetForTemporalGrounding, VSLNetModel
from internvideo_hf.auto import auto_class
from internvideo_hf.models.vslnet.modeling_vslnet import VSLNetFusion, VSLNetPositions
from internvideo_hf.models.vslnet.spans_vslnet import best_spans

VIDEO, TEXT, WIDTH, HEADS, ROWS, WORDS = 6, 5, 8, 2, 11, 4
READ_ELSEWHERE = {"initializer_range": "read by transformers"} | dict.fromkeys(
    ("features", "text_encoder", "text_revision"), "read by the task, which makes the features"
)


def tiny_config(**changes) -> VSLNetConfig:
    sizes = {
        "attention_dropout": 0.0,
        "video_size": VIDEO,
        "text_size": TEXT,
        "hidden_size": WIDTH,
        "num_attention_heads": HEADS,
        "num_conv_layers": 2,
        "kernel_size": 3,
        "max_positions": 12,
        "hidden_dropout": 0.1,
    }
    return VSLNetConfig(**(sizes | changes))


def head(**changes) -> VSLNetForTemporalGrounding:
    torch.manual_seed(0)
    return move_from_start(VSLNetForTemporalGrounding(tiny_config(**changes)))


def mask_of(*lengths: int) -> torch.Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def inputs_of(rows: tuple[int, ...] = (ROWS, ROWS), words: tuple[int, ...] = (WORDS, WORDS - 1)) -> dict:
    return {
        "features": draw(len(rows), max(rows), VIDEO),
        "feature_mask": mask_of(*rows),
        "text_features": draw(len(words), max(words), TEXT, seed=1),
        "text_mask": mask_of(*words),
    }


class FeatureChecks(ModelChecks):
    """The checks of models that read features in place of frames."""

    def config(self):
        return tiny_config()

    def inputs(self):
        return inputs_of()

    def towers(self, outputs):
        return []

    @torch.no_grad()
    def test_attentions_of_the_eager_kernel_are_probabilities(self) -> None:
        attentions = self.model(attn_implementation="eager")(**self.inputs(), output_attentions=True).attentions
        assert [tuple(weights.shape[1:]) for weights in attentions] == [(HEADS, n, n) for n in (ROWS, WORDS)]
        for weights in attentions:
            torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))

    @torch.no_grad()
    def test_samples_of_a_batch_do_not_see_each_other(self) -> None:
        model, inputs = self.model(), self.inputs()
        inputs.pop("labels", None)
        alone = model(**{name: value[1:] for name, value in inputs.items()})
        together = model(**inputs)
        for name, tensor in alone.items():
            torch.testing.assert_close(together[name][1:], tensor, atol=1e-5, rtol=1e-5)

    @torch.no_grad()
    def test_other_frame_counts_and_sizes_are_taken(self) -> None:
        model = self.model()
        for rows, words in (((1, 1), (1, 1)), ((30, 5), (2, 9))):
            outputs = model(**inputs_of(rows, words))
            assert outputs[0].shape[:2] == (2, max(rows)) and not outputs[0].isnan().any()

    def test_wrong_layouts_and_sizes_are_refused_with_what_would_fit(self) -> None:
        model, inputs = self.model(), self.inputs()
        for name, shape in (("features", f"(batch, rows, {VIDEO})"), ("text_features", f"(batch, words, {TEXT})")):
            given = inputs[name]
            for wrong in (given.mT, given[0], given[None], given[..., 1:], given[:, :0]):
                with pytest.raises(ValueError, match="expected") as error:
                    model(**inputs | {name: wrong})
                assert f"{name} has the shape {tuple(wrong.shape)}" in str(error.value) and shape in str(error.value)
        for name, shape in (("feature_mask", (2, ROWS)), ("text_mask", (2, WORDS))):
            for wrong in (inputs[name][:1], inputs[name][:, 1:], inputs[name][..., None]):
                with pytest.raises(ValueError, match="expected") as error:
                    model(**inputs | {name: wrong})
                assert f"{name} has the shape {tuple(wrong.shape)}, expected {shape}" in str(error.value)
        with pytest.raises(ValueError, match="There are 2 videos and 1 sentences"):
            model(**inputs | {"text_features": inputs["text_features"][:1], "text_mask": None})
        with pytest.raises(ValueError, match="Give text_features"):
            model(inputs["features"])

    @pytest.mark.slow
    def test_whole_graph_compiles_for_any_number_of_frames(self) -> None:
        model = self.model()
        torch._dynamo.reset()
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        for inputs in (self.inputs(), inputs_of((17, 9), (3, 6))):
            expected, actual = model(**inputs), compiled(**inputs)
            assert_same(actual, expected, atol=1e-6, rtol=1e-5)
            expected, actual = (  # scores of padding are -inf
                {name: tensor.nan_to_num(neginf=0.0) for name, tensor in outputs.items()}
                for outputs in (expected, actual)
            )
            expected = present(gradients(model, expected))
            assert_same(present(gradients(model, actual)), expected, atol=1e-6, rtol=1e-5)
        torch._dynamo.reset()

    @torch.no_grad()
    @pytest.mark.slow
    def test_exported_program_takes_other_batches_and_frame_counts(self) -> None:
        model, inputs = self.model(), self.inputs()
        inputs.pop("labels", None)
        exported = DynamoExporter().export(model, inputs, config=DynamoConfig(dynamic=True))
        for rows, words in (((14, 10, 3), (5, 5, 2)), ((7, 2), (3, 6))):
            inputs = inputs_of(rows, words)
            assert_same(dict(exported(**inputs)), dict(model(**inputs)), atol=1e-5, rtol=1e-5)


class TestVSLNetModel(FeatureChecks):
    model_class = VSLNetModel
    input_embeddings = "video_projection"
    fields_read_elsewhere = READ_ELSEWHERE | dict.fromkeys(
        ("highlight_extension", "highlight_loss_weight"), "read by the head"
    )


class TestVSLNetForTemporalGrounding(FeatureChecks):
    model_class = VSLNetForTemporalGrounding
    auto_class = auto_class("AutoModelForTemporalGrounding")
    input_embeddings = "vslnet.video_projection"
    fields_read_elsewhere = READ_ELSEWHERE
    in_float32 = ("loss", "span_loss", "highlight_loss")
    loss_over = "samples"

    def inputs(self):
        return inputs_of() | {"labels": torch.tensor([[2, 5], [0, 8]])}


# Padding, words, and length


@torch.no_grad()
@pytest.mark.parametrize("rows", [7, 20], ids=["within the positions", "longer than the positions"])
def test_padding_changes_no_answer_whatever_it_holds(rows):
    model, inputs = head(), inputs_of((rows, rows + 6), (WORDS, WORDS + 3))
    expected = model(inputs["features"][:1, :rows], text_features=inputs["text_features"][:1, :WORDS])
    inputs["features"][0, rows:], inputs["text_features"][0, WORDS:] = torch.nan, torch.nan
    outputs = model(**inputs)
    for name in ("start_logits", "end_logits", "highlight_scores"):
        # Products of more rows are summed in another order: 2.1e-6 on some processors.
        torch.testing.assert_close(outputs[name][:1, :rows], expected[name], atol=1e-5, rtol=1e-5)
    assert (outputs.start_logits[0, rows:] == -torch.inf).all() and (outputs.end_logits[0, rows:] == -torch.inf).all()
    assert not outputs.highlight_scores[0, rows:].any()
    assert [spans[0].end < rows for spans in best_spans(outputs.start_logits, outputs.end_logits)][0]


def test_padding_changes_no_gradient():
    found = []
    for rows in (7, 10):
        model, inputs = head(), inputs_of((rows, rows))
        inputs["features"] = draw(2, 10, VIDEO)[:, :rows]
        inputs["feature_mask"] = (torch.arange(rows) < 7).expand(2, rows)
        model(**inputs, labels=torch.tensor([[2, 5], [0, 6]])).loss.backward()
        found.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert_same(found[1], found[0], atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_words_matter_and_so_does_their_order_but_hidden_ones_do_not():
    model, inputs = head(), inputs_of()
    expected = model(**inputs).start_logits
    other = inputs | {"text_features": inputs["text_features"] + 1}
    swapped = inputs | {"text_features": inputs["text_features"][:, [1, 0, 2, 3]]}
    for changed in (other, swapped):
        assert (model(**changed).start_logits - expected).abs().min(dim=1).values.max() > 1e-3
    hidden = inputs["text_features"].clone()
    hidden[1, WORDS - 1] += 5
    assert torch.equal(model(**inputs | {"text_features": hidden}).start_logits, expected)
    shown = model(**inputs | {"text_mask": None}).start_logits
    assert torch.equal(shown[0], expected[0]) and not torch.allclose(shown[1], expected[1], atol=1e-3)


@torch.no_grad()
def test_every_row_sees_all_rows_and_its_place():
    model, inputs = head(), inputs_of()
    before = model(**inputs).end_logits
    inputs["features"][:, 0] += 1
    assert ((model(**inputs).end_logits - before).abs() > 1e-5).all()
    same = inputs | {"features": torch.ones(2, ROWS, VIDEO)}
    middle = model(**same).start_logits[0, 4:7]  # beyond the reach of convolutions from either end
    assert len(middle.unique()) == 3, "rows with equal surroundings differ by their positions"


@torch.no_grad()
def test_positions_are_rows_of_the_table_or_lie_between_them():
    positions = VSLNetPositions(4, WIDTH)
    table = positions.weight
    found = positions(mask_of(3, 4, 8))
    assert torch.equal(found[0, :3], table[:3]) and torch.equal(found[1, :4], table)
    # Half-pixel centers: of twice as many, each lies a quarter before or behind a row of the table.
    torch.testing.assert_close(found[2, 3], 0.75 * table[1] + 0.25 * table[2])
    torch.testing.assert_close(found[2, 4], 0.25 * table[1] + 0.75 * table[2])
    assert torch.equal(found[2, 0], table[0]) and torch.equal(found[2, 7], table[3])
    assert positions(torch.zeros(1, 2, dtype=torch.bool)).isfinite().all()


# Parts, beside numpy


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


@torch.no_grad()
def test_context_query_attention_is_that_of_the_paper():
    torch.manual_seed(0)
    fusion = VSLNetFusion(tiny_config()).eval()
    for parameter in fusion.parameters():
        parameter.normal_()
    rows, words = 5, 3
    video, text = draw(1, 7, WIDTH), draw(1, 4, WIDTH, seed=1)
    actual = fusion(video, text, mask_of(rows, 7)[:1], mask_of(words, 4)[:1])
    weights = {name: tensor.double().numpy() for name, tensor in fusion.state_dict().items()}
    v, q = video[0, :rows].double().numpy(), text[0, :words].double().numpy()
    trilinear = np.concatenate(
        [weights["video_score.weight"][0], weights["text_score.weight"][0], weights["joint_score"]]
    )
    scores = np.array([[trilinear @ np.concatenate([a, b, a * b]) for b in q] for a in v])
    over_words = np.array([softmax(row) for row in scores])
    over_rows = np.array([softmax(column) for column in scores.T]).T
    a, b = over_words @ q, over_words @ over_rows.T @ v
    aware = np.concatenate([v, a, v * a, v * b], axis=1) @ weights["attended.weight"].T + weights["attended.bias"]
    summary = softmax(q @ weights["word_score.weight"][0]) @ q
    both = np.concatenate([aware, np.tile(summary, (rows, 1))], axis=1)
    expected = both @ weights["output.weight"].T + weights["output.bias"]
    np.testing.assert_allclose(actual[0, :rows].numpy(), expected, atol=1e-4, rtol=1e-4)
    assert not actual[0, rows:].any()


@torch.no_grad()
def test_rows_reach_the_predictor_as_far_as_they_are_highlighted():
    model, inputs, seen = head(), inputs_of(), []
    model.predictor.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    outputs = model(**inputs)
    rows = model.vslnet(**inputs).last_hidden_state
    highlights = 1 / (1 + (-(rows @ model.highlighter.weight[0] + model.highlighter.bias)).exp())
    torch.testing.assert_close(outputs.highlight_scores, highlights)
    torch.testing.assert_close(seen[0], rows * highlights[..., None])
    model.highlighter.weight.zero_()
    model.highlighter.bias.fill_(-200.0)
    logits = model(**inputs).start_logits
    model.vslnet.fusion.output.weight.normal_()
    assert torch.equal(model(**inputs).start_logits, logits), "what is not highlighted is not seen"


@torch.no_grad()
def test_the_end_is_conditioned_on_the_start_by_the_same_encoder():
    predictor, rows, mask = head().predictor, draw(2, ROWS, WIDTH), mask_of(ROWS, 6)
    calls = []
    predictor.encoder.register_forward_hook(lambda module, args, result: calls.append((args[0], result)))
    predictor(rows, mask)
    assert len(calls) == 2 and torch.equal(calls[0][0], rows) and torch.equal(calls[1][0], calls[0][1])


def test_fresh_weights_are_those_of_the_papers_code():
    torch.manual_seed(0)
    model = VSLNetForTemporalGrounding(VSLNetConfig())
    assert not any(p.any() for name, p in model.named_parameters() if name.endswith("bias"))
    bound = (6 / (1024 + 128)) ** 0.5
    assert 0.99 * bound < model.vslnet.video_projection.weight.abs().max() <= bound
    assert model.predictor.encoder.positions.weight.std().item() == pytest.approx(0.02, rel=0.05)


# The loss


def test_the_loss_is_the_weighted_sum_of_its_parts():
    labels = torch.tensor([[2, 5], [0, 8]])
    outputs = head(highlight_loss_weight=0.25)(**inputs_of(), labels=labels)
    assert outputs.loss.item() == pytest.approx((outputs.span_loss + 0.25 * outputs.highlight_loss).item())
    assert min(outputs.span_loss.item(), outputs.highlight_loss.item()) > 0
    with pytest.raises(ValueError, match="answer .2, 11. of sample 0 does not lie in its video of 11 rows"):
        head()(**inputs_of(), labels=torch.tensor([[2, 11], [0, 8]]))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_training_in_mixed_precision_has_the_loss_of_float32(dtype, attention):
    model, inputs = head(), inputs_of((ROWS, 6)) | {"labels": torch.tensor([[2, 5], [0, 3]])}
    model.set_attn_implementation(attention)
    expected = model(**inputs).loss.item()
    with torch.autocast("cpu", dtype):
        loss = model(**inputs).loss
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=0.05)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_gradients_of_processes_average_to_those_of_one_with_all_videos():
    inputs, labels = inputs_of((ROWS, 6)), torch.tensor([[2, 5], [0, 3]])
    model = head()
    expected = model(**inputs, labels=labels).loss
    own = [{name: value[rank : rank + 1] for name, value in inputs.items()} for rank in (0, 1)]
    losses = [model(**own[rank], labels=labels[rank : rank + 1]).loss for rank in (0, 1)]
    torch.testing.assert_close(sum(losses) / 2, expected)


def test_it_learns_which_stretch_a_word_asks_for():
    """Rows show one of three colors in turn, and the word names one of them."""
    generator = torch.Generator().manual_seed(0)
    colors, words = draw(3, VIDEO, seed=2), draw(3, 1, TEXT, seed=3)

    def samples(count: int) -> dict:
        features, labels, asked = torch.zeros(count, 18, VIDEO), [], torch.randint(3, (count,), generator=generator)
        for number in range(count):
            order = torch.randperm(3, generator=generator)
            ends = torch.tensor([0, *(torch.randint(2, 8, (2,), generator=generator).cumsum(0)), 18])
            for place, color in enumerate(order.tolist()):
                features[number, ends[place] : ends[place + 1]] = colors[color]
                if color == asked[number]:
                    labels.append([int(ends[place]), int(ends[place + 1]) - 1])
        return {"features": features, "text_features": words[asked], "labels": torch.tensor(labels)}

    torch.manual_seed(0)
    model = VSLNetForTemporalGrounding(tiny_config(hidden_size=16, max_positions=18, hidden_dropout=0.0)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(50):
        optimizer.zero_grad()
        model(**samples(16)).loss.backward()
        optimizer.step()
    unseen = samples(40)
    with torch.no_grad():
        outputs = model.eval()(**unseen)
    found = [spans[0][:2] for spans in best_spans(outputs.start_logits, outputs.end_logits, k=1)]
    right = [list(span) == label for span, label in zip(found, unseen["labels"].tolist(), strict=True)]
    assert sum(right) >= 30, f"{sum(right)} of 40"
