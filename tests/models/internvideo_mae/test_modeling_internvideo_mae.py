"""VideoMAE: encoder, masked pretraining and classifier, each compared with transformers' own."""

import math
from types import SimpleNamespace

import pytest
import torch
from einops import rearrange
from models.model_checks import (
    OPEN_SET_IN_FLOAT32,
    ExportedInAnother,
    ModelChecks,
    Tower,
    assert_same,
    draw,
    gradients,
    move_from_start,
    present,
)
from torch import nn
from torch.nn.functional import cross_entropy, linear, softmax
from transformers import AutoModel, AutoModelForPreTraining, AutoModelForVideoClassification

from internvideo_hf import (
    InternVideoMAEConfig,
    InternVideoMAEForHandPrediction,
    InternVideoMAEForOpenSetClassification,
    InternVideoMAEForPreTraining,
    InternVideoMAEForVideoClassification,
)
from internvideo_hf.auto import auto_class
from internvideo_hf.checkpoints.transformers_videomae import export
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae import (
    InternVideoMAELayer,
    InternVideoMAEModel,
    InternVideoMAEPositions,
    sine_table,
)

FRAMES, SIDE, PATCH, TUBELET = 4, 32, 8, 2
GRID = (FRAMES // TUBELET, SIDE // PATCH, SIDE // PATCH)
CUBES, WIDTH, LAYERS, HEADS = math.prod(GRID), 24, 3, 4
DECODER_WIDTH, PIXELS = 20, TUBELET * PATCH * PATCH * 3
LABELS, HIDDEN = 5, 24
VISIBLE = CUBES - HIDDEN


def tiny_config(**changes) -> InternVideoMAEConfig:
    sizes = {
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 40,
        "image_size": SIDE,
        "num_frames": FRAMES,
        "patch_size": PATCH,
        "decoder_hidden_size": DECODER_WIDTH,
        "decoder_num_hidden_layers": 2,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 28,
        "num_labels": LABELS,
    }
    return InternVideoMAEConfig(**(sizes | changes))


def moved(model_class: type, **changes):
    torch.manual_seed(0)
    return move_from_start(model_class(tiny_config(**changes)))


def encoder(**changes) -> InternVideoMAEModel:
    return moved(InternVideoMAEModel, **changes)


def pretraining(**changes) -> InternVideoMAEForPreTraining:
    return moved(InternVideoMAEForPreTraining, use_mean_pooling=False, **changes)


def classifier(**changes) -> InternVideoMAEForVideoClassification:
    return moved(InternVideoMAEForVideoClassification, **changes)


def clips(batch: int = 2, seed: int = 0) -> torch.Tensor:
    return draw(batch, FRAMES, 3, SIDE, SIDE, seed=seed)


def mask_of(hidden: int = HIDDEN, batch: int = 2, cubes: int = CUBES) -> torch.Tensor:
    """Another mask in each row, with as many cubes hidden in all of them."""
    ranks = torch.rand(batch, cubes, generator=torch.Generator().manual_seed(1)).argsort().argsort()
    return ranks < hidden


def cut_by_hand(video: torch.Tensor) -> torch.Tensor:
    """Cubes in their order; inside a cube frame by frame, row by row, the channel fastest."""
    cubes = [
        video[
            :,
            t * TUBELET : (t + 1) * TUBELET,
            :,
            row * PATCH : (row + 1) * PATCH,
            column * PATCH : (column + 1) * PATCH,
        ]
        .movedim(2, -1)
        .flatten(1)
        for t in range(video.shape[1] // TUBELET)
        for row in range(video.shape[3] // PATCH)
        for column in range(video.shape[4] // PATCH)
    ]
    return torch.stack(cubes, dim=1)


def as_pixels(video: torch.Tensor) -> torch.Tensor:
    """Undo ImageNet's normalisation."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return video * std[:, None, None] + mean[:, None, None]


# The shared checks

FIELDS_READ_ELSEWHERE = {
    "image_size": "converters hand it to the processor; the position table is made for position_image_size",
    "num_frames": "likewise",
    **dict.fromkeys(
        ("decoder_hidden_size", "decoder_num_hidden_layers", "decoder_num_attention_heads")
        + ("decoder_intermediate_size", "norm_pix_loss", "image_mean", "image_std"),
        "pretraining reads it",
    ),
    **dict.fromkeys(("classifier_dropout", "num_segments", "head_init_scale"), "the classifier reads it"),
    **dict.fromkeys(
        ("detection_head", "roi_size", "roi_scale", "roi_sampling_ratio", "roi_aligned", "attend_to_padding"),
        "the detector reads it",
    ),
    **dict.fromkeys(("verb_loss_weight", "time_loss_weight"), "short-term anticipation reads it"),
}


class TestInternVideoMAEModel(ExportedInAnother, ModelChecks):
    model_class = InternVideoMAEModel
    input_embeddings = "embeddings"
    frame_counts = ()  # a traced graph holds the position table of one frame count; other counts have tests below
    fields_read_elsewhere = FIELDS_READ_ELSEWHERE

    def config(self):
        return tiny_config()

    def inputs(self):
        return {"pixel_values_videos": clips()}

    def towers(self, outputs):
        return [Tower(outputs, LAYERS, (2, CUBES, WIDTH), (2, HEADS, CUBES, CUBES))]


class TestInternVideoMAEModelWithLearnedPositions(TestInternVideoMAEModel):
    """And with everything else that no released model has: layer scale, no biases, the norm before the pooling."""

    def config(self):
        return tiny_config(
            position_embedding_type="learned", layer_scale_init_value=0.1, qkv_bias=False, use_mean_pooling=False
        )

    # The graph is that of the class above.
    test_whole_graph_compiles_for_any_number_of_frames = None
    test_exported_program_takes_other_batches_and_frame_counts = None


class TestInternVideoMAEForPreTraining(ModelChecks):
    model_class = InternVideoMAEForPreTraining
    in_float32 = ("loss",)
    auto_class = AutoModelForPreTraining
    input_embeddings = "internvideo_mae.embeddings"
    frame_counts = ()
    fields_read_elsewhere = {key: why for key, why in FIELDS_READ_ELSEWHERE.items() if why != "pretraining reads it"}
    loss_over = "samples"

    def config(self):
        return tiny_config(use_mean_pooling=False)

    def inputs(self):
        return self.with_pixels(clips())

    def with_pixels(self, pixels):
        grid = pixels.shape[1] // TUBELET, pixels.shape[-2] // PATCH, pixels.shape[-1] // PATCH
        cubes = math.prod(grid)
        return {"pixel_values_videos": pixels, "bool_masked_pos": mask_of(cubes * 3 // 4, len(pixels), cubes)}

    def towers(self, outputs):
        return [Tower(outputs, LAYERS, (2, VISIBLE, WIDTH), (2, HEADS, VISIBLE, VISIBLE))]

    def calls(self, model, inputs):
        return super().calls(model, inputs) | {"pictures": model.reconstruct(**inputs)}

    # How many cubes the encoder sees stands in the mask and not in its shape, which no single graph can follow.
    test_a_device_map_may_put_any_half_on_another_device = None
    test_whole_graph_compiles_for_any_number_of_frames = None
    test_exported_program_takes_other_batches_and_frame_counts = None

    @pytest.mark.slow
    def test_compiled_in_pieces_it_computes_the_same(self):
        model = pretraining(num_hidden_layers=1, decoder_num_hidden_layers=1)
        inputs = self.inputs()
        torch._dynamo.reset()
        compiled = torch.compile(model, backend="eager")
        expected, actual = model(**inputs), compiled(**inputs)
        assert_same(actual, expected, atol=1e-6, rtol=1e-5)
        expected = present(gradients(model, expected))
        assert_same(present(gradients(model, actual)), expected, atol=1e-6, rtol=1e-5)
        torch._dynamo.reset()


class TestInternVideoMAEForVideoClassification(ModelChecks):
    model_class = InternVideoMAEForVideoClassification
    in_float32 = ("loss",)
    auto_class = AutoModelForVideoClassification
    input_embeddings = "internvideo_mae.embeddings"
    frame_counts = ()
    fields_read_elsewhere = {
        key: why for key, why in FIELDS_READ_ELSEWHERE.items() if why != "the classifier reads it"
    }
    loss_over = "samples"

    def config(self):
        return tiny_config()

    def inputs(self):
        return {"pixel_values_videos": clips(), "labels": torch.tensor([1, 4])}

    def towers(self, outputs):
        return [Tower(outputs, LAYERS, (2, CUBES, WIDTH), (2, HEADS, CUBES, CUBES))]


class TestInternVideoMAEForOpenSetClassification(TestInternVideoMAEForVideoClassification):
    model_class = InternVideoMAEForOpenSetClassification
    in_float32 = OPEN_SET_IN_FLOAT32
    auto_class = auto_class("AutoModelForOpenSetClassification")
    test_exported_program_takes_other_batches_and_frame_counts = None  # takes long, and the class above has it

    def config(self):
        config = super().config()
        config.evidential = {"kl": True}
        return config


class TestInternVideoMAEForHandPrediction(TestInternVideoMAEForVideoClassification):
    model_class = InternVideoMAEForHandPrediction
    auto_class = auto_class("AutoModelForHandPrediction")
    test_exported_program_takes_other_batches_and_frame_counts = None  # as above

    def inputs(self):
        return {"pixel_values_videos": clips(), "labels": 9 * draw(2, tiny_config().num_labels)}


# Cubes and positions


@torch.no_grad()
def test_cubes_are_embedded_as_by_a_3d_convolution_in_the_order_time_row_column():
    model, video = encoder(), clips()
    embedded = nn.functional.conv3d(
        video.transpose(1, 2), model.embeddings.weight, model.embeddings.bias, stride=(TUBELET, PATCH, PATCH)
    )
    states = model(video, output_hidden_states=True).hidden_states[0]
    expected = embedded.flatten(2).transpose(1, 2) + sine_table(CUBES, WIDTH)
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)


def test_sine_table_is_the_formula():
    table = sine_table(50, 6)
    assert table.shape == (50, 6) and table.dtype == torch.float32
    for position in (0, 1, 7, 49):
        for channel in range(6):
            angle = position / 10000 ** (2 * (channel // 2) / 6)
            expected = math.cos(angle) if channel % 2 else math.sin(angle)
            assert table[position, channel].item() == pytest.approx(expected, abs=1e-7)


def test_fixed_table_is_in_no_file_and_gets_no_gradient():
    model = encoder()
    assert not any("positions" in name for name in [*model.state_dict(), *dict(model.named_parameters())])


@torch.no_grad()
def test_learned_positions_are_a_parameter_that_is_added():
    model, video = encoder(position_embedding_type="learned"), clips()
    table = model.state_dict()["positions.table"]
    assert table.shape == (CUBES, WIDTH)
    before = model(video, output_hidden_states=True).hidden_states[0]
    model.positions.table += 1.0
    torch.testing.assert_close(model(video, output_hidden_states=True).hidden_states[0], before + 1)
    torch.manual_seed(0)
    fresh = InternVideoMAEModel(tiny_config(position_embedding_type="learned", initializer_range=0.3))
    assert fresh.positions.table.std().item() == pytest.approx(0.3, rel=0.1)


def cubic(old: int, new: int) -> torch.Tensor:
    """Return the matrix `(new, old)` of bicubic resizing along an axis: Keys' kernel, a = -0.75, repeated border."""
    a, matrix = -0.75, torch.zeros(new, old, dtype=torch.float64)
    for i in range(new):
        centre = (i + 0.5) * old / new - 0.5
        for tap in range(math.floor(centre) - 1, math.floor(centre) + 3):
            x = abs(centre - tap)
            near = (a + 2) * x**3 - (a + 3) * x**2 + 1
            far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
            matrix[i, min(max(tap, 0), old - 1)] += near if x <= 1 else far
    return matrix


def straight(old: int, new: int) -> torch.Tensor:
    """Return the same matrix for linear resizing."""
    matrix = torch.zeros(new, old, dtype=torch.float64)
    for i in range(new):
        centre = max((i + 0.5) * old / new - 0.5, 0.0)
        low = min(int(centre), old - 1)
        matrix[i, low] += 1 - (centre - low)
        matrix[i, min(low + 1, old - 1)] += centre - low
    return matrix


@torch.no_grad()
@pytest.mark.parametrize("kind", ["sinusoidal", "learned"])
@pytest.mark.parametrize(
    "grid", [(2, 4, 4), (2, 6, 6), (2, 3, 5), (5, 4, 4), (1, 4, 4), (4, 7, 3), (1, 1, 1)], ids=str
)
def test_other_grids_resample_the_table_bicubic_in_space_and_linear_in_time(grid, kind):
    positions = InternVideoMAEPositions(tiny_config(position_embedding_type=kind), WIDTH)
    if kind == "learned":
        positions.table.copy_(draw(CUBES, WIDTH))
    table = rearrange(positions.table.double(), "(t h w) c -> t h w c", t=GRID[0], h=GRID[1])
    matrices = straight(GRID[0], grid[0]), cubic(GRID[1], grid[1]), cubic(GRID[2], grid[2])
    expected = torch.einsum("tT,hH,wW,THWc->thwc", *matrices, table).flatten(0, 2).float()
    torch.testing.assert_close(positions(grid), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_table_of_another_clip_is_resampled_for_the_clip_that_the_model_is_meant_for():
    """As in the released 32-frame, 384-pixel model, which keeps the table of 16 frames and 224 pixels."""
    model = encoder(image_size=48, num_frames=8, position_image_size=SIDE, position_num_frames=FRAMES)
    plain = encoder()
    large = draw(1, 8, 3, 48, 48)
    assert model.positions.table.shape == (CUBES, WIDTH)
    assert_same(model(large), plain(large))
    own = encoder(image_size=48, num_frames=8)
    assert not torch.allclose(own(large).pooler_output, plain(large).pooler_output, atol=1e-3)


@torch.no_grad()
def test_any_multiple_of_cube_sizes_is_taken():
    models = encoder(), classifier(), pretraining()
    for frames, height, width in ((2, 32, 32), (6, 32, 32), (4, 40, 24), (10, 8, 16)):
        video = draw(2, frames, 3, height, width)
        cubes = frames * height * width // (TUBELET * PATCH * PATCH)
        outputs = models[0](video)
        assert outputs.last_hidden_state.shape == (2, cubes, WIDTH) and outputs.pooler_output.shape == (2, WIDTH)
        assert models[1](video).logits.shape == (2, LABELS)
        assert models[2](video, mask_of(2, 2, cubes)).logits.shape == (2, 2, PIXELS)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 4, 3, 30, 32), "height, 30, is not a multiple of the patch size 8. Make it 24 or 32"),
        ((2, 4, 3, 32, 61), "width, 61, is not a multiple of the patch size 8. Make it 56 or 64"),
        ((2, 5, 3, 32, 32), "number of frames, 5, is not a multiple of the tubelet size 2. Make it 4 or 6"),
        ((2, 1, 3, 32, 32), "number of frames, 1, is not a multiple of the tubelet size 2. Make it 2"),
        ((2, 3, 32, 32), "number of frames, 1"),
    ],
    ids=str,
)
def test_other_sizes_are_refused_with_the_nearest_that_fit(shape, message):
    for model in (encoder(), classifier()):
        with pytest.raises(ValueError, match=message):
            model(draw(*shape))
    with pytest.raises(ValueError, match=message):
        pretraining()(draw(*shape), mask_of())


# Layers


@torch.no_grad()
def test_layer_is_attention_and_mlp_each_added_to_its_input():
    model, tokens = encoder(layer_scale_init_value=0.1), draw(2, 7, WIDTH)
    layer, width = model.layers[1], WIDTH // HEADS
    attention = layer.self_attn
    normed = nn.functional.layer_norm(tokens, (WIDTH,), layer.layer_norm1.weight, layer.layer_norm1.bias, 1e-6)
    assert attention.k_proj.bias is None
    query, key, value = (
        part(normed).unflatten(-1, (HEADS, width)).transpose(1, 2)
        for part in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    mixed = softmax(query @ key.mT / width**0.5, dim=-1) @ value
    attended = attention.out_proj(mixed.transpose(1, 2).flatten(2))
    tokens_after = tokens + attended * layer.layer_scale1.factor
    normed = nn.functional.layer_norm(tokens_after, (WIDTH,), layer.layer_norm2.weight, layer.layer_norm2.bias, 1e-6)
    inner = linear(normed, layer.mlp.fc1.weight, layer.mlp.fc1.bias)
    inner = inner * (1 + torch.erf(inner / 2**0.5)) / 2
    expected = tokens_after + layer.mlp.fc2(inner) * layer.layer_scale2.factor
    torch.testing.assert_close(layer(tokens), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_layer_scale_is_there_on_request_and_starts_at_its_value():
    assert not any("layer_scale" in name for name in encoder().state_dict())
    torch.manual_seed(0)
    model = InternVideoMAEModel(tiny_config(layer_scale_init_value=0.25))
    factors = [tensor for name, tensor in model.state_dict().items() if "layer_scale" in name]
    assert len(factors) == 2 * LAYERS
    assert all(torch.equal(factor, torch.full((WIDTH,), 0.25)) for factor in factors)
    tokens = draw(2, 7, WIDTH)
    model.layers[0].layer_scale1.factor.zero_()
    model.layers[0].layer_scale2.factor.zero_()
    assert torch.equal(model.layers[0](tokens), tokens)


def test_biases_of_queries_and_values_are_left_out_on_request():
    names = [name for name in encoder(qkv_bias=False).state_dict() if "_proj.bias" in name]
    assert len(names) == LAYERS and all("out_proj" in name for name in names)


def test_drop_path_rates_rise_linearly_from_zero():
    for model in (encoder(drop_path_rate=0.3), pretraining(drop_path_rate=0.3)):
        stacks = (
            [model.layers]
            if isinstance(model, InternVideoMAEModel)
            else [
                model.internvideo_mae.layers,
                model.decoder.layers,
            ]
        )
        for layers in stacks:
            rates = [layer.drop_path.rate for layer in layers]
            assert rates == pytest.approx([0.3 * i / (len(layers) - 1) for i in range(len(layers))])
    assert [layer.drop_path.rate for layer in encoder(drop_path_rate=0.3, num_hidden_layers=1).layers] == [0.0]


@torch.no_grad()
def test_drop_path_leaves_out_whole_branches_of_some_samples_in_training_only():
    rate = 0.4
    layer = InternVideoMAELayer(classifier().config, WIDTH, HEADS, 40, rate)
    nn.init.zeros_(layer.mlp.fc2.weight), nn.init.zeros_(layer.mlp.fc2.bias)  # leaves one branch to look at
    tokens = draw(1, 5, WIDTH).expand(4000, -1, -1)
    branch = layer.eval()(tokens[:1]) - tokens[:1]
    torch.manual_seed(0)
    added = layer.train()(tokens) - tokens
    shares = (added / branch).flatten(1)
    torch.testing.assert_close(shares, shares[:, :1].expand_as(shares), atol=1e-2, rtol=1e-2)
    kept = shares[:, 0] > 0.5
    torch.testing.assert_close(
        added[kept], (branch / (1 - rate)).expand(int(kept.sum()), -1, -1), atol=1e-5, rtol=1e-4
    )
    assert not added[~kept].any()
    # Five standard errors of a share among 4000.
    assert kept.float().mean().item() == pytest.approx(1 - rate, abs=5 * (rate * (1 - rate) / 4000) ** 0.5)
    assert torch.equal(layer.eval()(tokens[:1]), tokens[:1] + branch)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_dropout_of_attention_acts_in_training_only(implementation):
    model, video = encoder(attention_dropout=0.5), clips()
    model.set_attn_implementation(implementation)
    assert_same(model(video), model(video))
    model.train()
    assert not torch.equal(model(video).last_hidden_state, model(video).last_hidden_state)


# Hidden cubes


@torch.no_grad()
def test_visible_cubes_alone_are_embedded_as_among_all_and_keep_their_positions():
    model, video, mask = pretraining().internvideo_mae, clips(), mask_of()
    everything = model(video, output_hidden_states=True).hidden_states[0]
    visible = model(video, mask, output_hidden_states=True).hidden_states[0]
    expected = torch.stack([states[~row] for states, row in zip(everything, mask, strict=True)])
    torch.testing.assert_close(visible, expected, atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_encoder_does_not_see_what_is_hidden():
    model, video, mask = pretraining(), clips(), mask_of()
    hidden = pixels_of(mask)
    other = torch.where(hidden, clips(seed=5), video)
    assert_same(model.internvideo_mae(other, mask), model.internvideo_mae(video, mask))
    torch.testing.assert_close(model(other, mask).logits, model(video, mask).logits, atol=1e-6, rtol=1e-6)
    assert not torch.allclose(model(other, mask).loss, model(video, mask).loss)


@torch.no_grad()
def test_mask_that_hides_nothing_changes_nothing():
    model, video = encoder(), clips()
    assert_same(model(video, torch.zeros(2, CUBES, dtype=torch.bool)), model(video), atol=1e-6, rtol=1e-6)


def pixels_of(mask: torch.Tensor) -> torch.Tensor:
    """Expand a mask of tubelets to pixels, `(batch, frames, 1, height, width)`."""
    t, h, w = GRID
    cubes = mask.reshape(-1, t, 1, h, w)
    return cubes.repeat_interleave(TUBELET, 1).repeat_interleave(PATCH, 3).repeat_interleave(PATCH, 4)


UNEVEN = torch.arange(CUBES)[None] < torch.tensor([[HIDDEN], [HIDDEN - 1]])
WRONG_MASKS = {
    "uneven": (UNEVEN, r"Every row of a mask must have the same number of True entries, got \[24, 23\]"),
    "integers": (mask_of().long(), r"The mask is torch.int64 of the shape \(2, 32\), expected torch.bool"),
    "too short": (mask_of()[:, 1:], r"shape \(2, 31\), expected torch.bool of the shape \(2, 32\)"),
    "one row": (mask_of()[:1], r"shape \(1, 32\)"),
    "on a grid": (mask_of().reshape(2, *GRID), r"shape \(2, 2, 4, 4\)"),
    "everything": (torch.ones(2, CUBES, dtype=torch.bool), "hides all 32 tokens"),
}


@pytest.mark.parametrize("name", WRONG_MASKS)
def test_masks_that_do_not_fit_are_refused(name):
    (mask, message), model, video = WRONG_MASKS[name], pretraining(), clips()
    with pytest.raises(ValueError, match=message):
        model.internvideo_mae(video, mask)
    with pytest.raises(ValueError, match=message):
        model(video, mask)
    if name != "everything":
        with pytest.raises(ValueError, match=message):
            model(video, mask_of(), decode_mask=mask)


def test_nothing_to_reconstruct_is_refused():
    model, nothing = pretraining(), torch.zeros(2, CUBES, dtype=torch.bool)
    with pytest.raises(ValueError, match="No hidden tubelet is left"):
        model(clips(), nothing)
    with pytest.raises(ValueError, match="No hidden tubelet is left"):
        model(clips(), mask_of(), decode_mask=~mask_of())


# Pretraining


def targets_by_hand(video: torch.Tensor, normalized: bool = True) -> torch.Tensor:
    """Of all cubes, `(batch, cubes, pixels)`."""
    cubes = cut_by_hand(as_pixels(video))
    if not normalized:
        return cubes
    pixels = cubes.unflatten(-1, (-1, 3))
    count = pixels.shape[2]
    mean = pixels.sum(2, keepdim=True) / count
    variance = (pixels - mean).square().sum(2, keepdim=True) / (count - 1)
    return ((pixels - mean) / (variance.sqrt() + 1e-6)).flatten(2)


@torch.no_grad()
@pytest.mark.parametrize("normalized", [True, False], ids=["normalized cubes", "plain pixels"])
def test_loss_is_the_mean_squared_error_over_hidden_cubes(normalized):
    model, video, mask = pretraining(norm_pix_loss=normalized), clips(), mask_of()
    outputs = model(video, mask)
    assert outputs.logits.shape == (2, HIDDEN, PIXELS)
    targets = targets_by_hand(video, normalized)
    errors = [(outputs.logits[i] - targets[i][mask[i]]).square() for i in range(2)]
    torch.testing.assert_close(outputs.loss, torch.stack(errors).mean(), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_every_hidden_cube_has_the_prediction_of_its_own_position():
    model, video, mask = pretraining(), clips(), mask_of()
    for layer in model.decoder.layers:  # without these every token goes its own way
        nn.init.zeros_(layer.self_attn.out_proj.weight), nn.init.zeros_(layer.self_attn.out_proj.bias)
    tokens = model.decoder.mask_token + sine_table(CUBES, DECODER_WIDTH)
    for layer in model.decoder.layers:
        tokens = tokens + layer.mlp(layer.layer_norm2(tokens))
    everywhere = model.decoder.head(model.decoder.layernorm(tokens))
    expected = torch.stack([everywhere[row] for row in mask])
    torch.testing.assert_close(model(video, mask).logits, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_wanting_all_that_is_hidden_is_plain_pretraining():
    model, video, mask = pretraining(), clips(), mask_of()
    assert_same(model(video, mask, decode_mask=mask), model(video, mask))
    with pytest.warns(FutureWarning, match="decode_mask=~bool_unwanted_pos"):
        assert_same(model(video, mask, bool_unwanted_pos=~mask), model(video, mask))


def test_masks_of_the_decoder_have_no_place_of_their_own():
    """In version 0.1 the third argument was the opposite of `decode_mask`."""
    with pytest.raises(TypeError, match="positional"):
        pretraining()(clips(), mask_of(), mask_of())


def test_the_old_name_of_tubelets_still_works():
    model = pretraining()
    with pytest.warns(FutureWarning, match="pass tubelets"):
        targets = model.targets(cubes=torch.ones(1, 2, PIXELS))
    torch.testing.assert_close(targets, model.targets(torch.ones(1, 2, PIXELS)))


def unwanted_of(mask: torch.Tensor, wanted: int) -> torch.Tensor:
    """All but the first hidden cubes of each row."""
    return ~(mask & (mask.cumsum(dim=1) <= wanted))


@torch.no_grad()
def test_decoder_masking_fills_in_the_wanted_cubes_alone():
    model, video, mask = pretraining(), clips(), mask_of()
    unwanted = unwanted_of(mask, 10)
    outputs, plain = model(video, mask, decode_mask=~unwanted), model(video, mask)
    assert outputs.logits.shape == (2, 10, PIXELS)
    targets = torch.stack([cubes[~row] for cubes, row in zip(targets_by_hand(video), unwanted, strict=True)])
    torch.testing.assert_close(outputs.loss, (outputs.logits - targets).square().mean(), atol=1e-5, rtol=1e-5)
    # The decoder's tokens attend to each other, so that leaving some out moves the others ...
    assert not torch.allclose(outputs.logits, plain.logits[:, :10], atol=1e-3)
    # ... and what is left out counts in nothing at all.
    other = torch.where(pixels_of(mask & unwanted), clips(seed=5), video)
    assert_same(model(other, mask, decode_mask=~unwanted), outputs)
    for layer in model.decoder.layers:
        nn.init.zeros_(layer.self_attn.out_proj.weight), nn.init.zeros_(layer.self_attn.out_proj.bias)
    alone = model(video, mask, decode_mask=~unwanted).logits
    torch.testing.assert_close(alone, model(video, mask).logits[:, :10], atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_wanted_cubes_that_the_encoder_saw_do_not_count_in_the_loss():
    model, video, mask = pretraining(), clips(), mask_of()
    unwanted = torch.ones(2, CUBES, dtype=torch.bool)
    unwanted[:, 8:20] = False  # the same cubes in both rows, of which the rows hide different numbers
    assert len({int(row[8:20].sum()) for row in mask}) == 2 and (~mask[:, 8:20]).any()
    outputs = model(video, mask, decode_mask=~unwanted)
    assert outputs.logits.shape == (2, 12, PIXELS)
    errors = (outputs.logits - targets_by_hand(video)[:, 8:20]).square()
    torch.testing.assert_close(outputs.loss, errors[mask[:, 8:20]].mean(), atol=1e-5, rtol=1e-5)


def test_decoder_masking_trains_the_same_parameters():
    model, mask = pretraining(), mask_of()
    model(clips(), mask, decode_mask=~unwanted_of(mask, 10)).loss.backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())


def test_model_with_the_pooling_of_a_classifier_is_refused_for_pretraining():
    with pytest.raises(ValueError, match="pass use_mean_pooling=False"):
        InternVideoMAEForPreTraining(tiny_config())


# Reconstruction


def natural_clips() -> torch.Tensor:
    """Sample normalized frames of pixels in 0-1."""
    pixels = torch.rand(2, FRAMES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (pixels - mean[:, None, None]) / std[:, None, None]


@pytest.mark.parametrize("normalized", [True, False], ids=["normalized cubes", "plain pixels"])
def test_pictures_show_visible_cubes_as_they_are_and_hidden_ones_as_predicted(normalized):
    model, video, mask = pretraining(norm_pix_loss=normalized), natural_clips(), mask_of()
    pictures, hidden = model.reconstruct(video, mask), pixels_of(mask).expand_as(video)
    assert list(pictures) == ["original", "masked", "reconstructed"]
    for picture in pictures.values():
        assert picture.shape == video.shape and not picture.requires_grad
        assert picture.min() >= 0 and picture.max() <= 1
    torch.testing.assert_close(pictures["original"], as_pixels(video), atol=1e-6, rtol=0)
    assert torch.equal(pictures["masked"], torch.where(hidden, 0.5, pictures["original"]))
    assert torch.equal(pictures["reconstructed"][~hidden], pictures["original"][~hidden])
    predicted = model(video, mask).logits.detach().unflatten(-1, (-1, 3))
    if normalized:
        true = torch.stack([cubes[row] for cubes, row in zip(cut_by_hand(as_pixels(video)), mask, strict=True)])
        true = true.unflatten(-1, (-1, 3))
        predicted = predicted * (true.std(2, keepdim=True) + 1e-6) + true.mean(2, keepdim=True)
    shown = cut_by_hand(pictures["reconstructed"])
    shown = torch.stack([cubes[row] for cubes, row in zip(shown, mask, strict=True)])
    torch.testing.assert_close(shown, predicted.flatten(2).clamp(0, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("normalized", [True, False], ids=["normalized cubes", "plain pixels"])
def test_perfect_predictions_give_the_true_picture_with_its_brightness(normalized, monkeypatch):
    model, video, mask = pretraining(norm_pix_loss=normalized), natural_clips(), mask_of()
    targets = targets_by_hand(video, normalized)
    perfect = torch.stack([cubes[row] for cubes, row in zip(targets, mask, strict=True)])
    monkeypatch.setattr(model, "forward", lambda *args, **kwargs: SimpleNamespace(logits=perfect))
    pictures = model.reconstruct(video, mask)
    torch.testing.assert_close(pictures["reconstructed"], pictures["original"], atol=1e-6, rtol=0)


# Classification


@torch.no_grad()
def test_mean_of_all_tokens_is_normalised_and_classified():
    model, video = classifier(), clips()
    tokens, norm = model.internvideo_mae(video).last_hidden_state, model.internvideo_mae.pooler_layernorm
    pooled = nn.functional.layer_norm(tokens.mean(dim=1), (WIDTH,), norm.weight, norm.bias, 1e-6)
    torch.testing.assert_close(model(video).logits, linear(pooled, model.classifier.weight, model.classifier.bias))
    assert not any("internvideo_mae.layernorm" in name for name in model.state_dict())


@torch.no_grad()
def test_first_token_is_classified_where_the_mean_is_not_wanted():
    model, video = classifier(use_mean_pooling=False), clips()
    outputs = model.internvideo_mae(video, output_hidden_states=True)
    norm = model.internvideo_mae.layernorm
    tokens = nn.functional.layer_norm(outputs.hidden_states[-1], (WIDTH,), norm.weight, norm.bias, 1e-6)
    torch.testing.assert_close(outputs.last_hidden_state, tokens)
    expected = linear(tokens[:, 0], model.classifier.weight, model.classifier.bias)
    torch.testing.assert_close(model(video).logits, expected)
    assert not any("pooler_layernorm" in name for name in model.state_dict())


@torch.no_grad()
def test_loss_takes_class_numbers_and_soft_labels():
    model, video = classifier(), clips()
    logits = model(video).logits
    shares = torch.tensor([[0.7, 0.0, 0.3, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4, 0.0]])
    by_hand = -(shares * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
    torch.testing.assert_close(model(video, labels=shares).loss, by_hand)
    labels = torch.tensor([1, 4])
    by_hand = -logits.log_softmax(dim=-1)[range(2), labels].mean()
    torch.testing.assert_close(model(video, labels=labels).loss, by_hand)
    assert model(video).loss is None


@torch.no_grad()
def test_segments_of_a_video_are_averaged_in_training_only():
    model, video, labels = classifier(num_segments=3), clips(6), torch.tensor([1, 4])
    every = model(video).logits
    assert every.shape == (6, LABELS)
    outputs = model.train()(video, labels=labels)
    expected = torch.stack([every[:3].mean(dim=0), every[3:].mean(dim=0)])
    torch.testing.assert_close(outputs.logits, expected)
    torch.testing.assert_close(outputs.loss, cross_entropy(expected, labels))


@torch.no_grad()
def test_dropout_before_the_head_acts_in_training_only():
    model, video, seen = classifier(classifier_dropout=0.25), clips(200), []
    model.classifier.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model(video)
    torch.manual_seed(0)
    model.train()(video)
    pooled, dropped = seen
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], pooled[kept] / 0.75)
    assert kept.float().mean().item() == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / kept.numel()) ** 0.5)


def test_fresh_head_is_small_and_the_rest_is_not():
    torch.manual_seed(0)
    model = InternVideoMAEForVideoClassification(tiny_config(num_labels=400))
    assert model.classifier.weight.std().item() == pytest.approx(0.02 * 0.001, rel=0.05)
    assert not model.classifier.bias.any()
    assert model.internvideo_mae.layers[0].mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not InternVideoMAEForVideoClassification(tiny_config(head_init_scale=0.0)).classifier.weight.any()


# From one class to another


def names_of(names: set[str]) -> set[str]:
    """Names without the last part, and without the number of a layer and what follows."""
    return {
        name.split(".layers.")[0].rpartition(".")[0]
        if ".layers." not in name
        else name.split(".layers.")[0] + ".layers"
        for name in names
    }


def test_pretrained_folder_becomes_a_classifier(tmp_path):
    pretrained = pretraining()
    pretrained.save_pretrained(tmp_path)
    model, info = InternVideoMAEForVideoClassification.from_pretrained(
        tmp_path, use_mean_pooling=True, num_labels=7, output_loading_info=True
    )
    assert names_of(info["missing_keys"]) == {"classifier", "internvideo_mae.pooler_layernorm"}
    # The pooled tokens get a norm of their own; that of pretraining's tokens has no place, as in the original.
    outside = {"decoder", "decoder.layers", "decoder.layernorm", "decoder.head", "encoder_to_decoder"}
    assert names_of(info["unexpected_keys"]) - {""} == outside | {"internvideo_mae.layernorm"}
    assert not info["mismatched_keys"]
    assert model.classifier.weight.shape == (7, WIDTH)
    theirs = pretrained.internvideo_mae.state_dict()
    for name, tensor in model.internvideo_mae.state_dict().items():
        assert "pooler" in name or torch.equal(tensor, theirs[name]), name
    assert torch.equal(model.internvideo_mae.pooler_layernorm.weight, torch.ones(WIDTH))


def test_pretrained_folder_becomes_a_classifier_of_the_first_token(tmp_path):
    pretraining().save_pretrained(tmp_path)
    _, info = InternVideoMAEForVideoClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert names_of(info["missing_keys"]) == {"classifier"}
    assert {name.split(".")[0] for name in info["unexpected_keys"]} == {"decoder", "encoder_to_decoder"}


@torch.no_grad()
def test_encoder_alone_loads_from_folders_of_both_kinds(tmp_path):
    for name, model in {"pretraining": pretraining(), "classifier": classifier()}.items():
        model.save_pretrained(tmp_path / name)
        loaded = AutoModel.from_pretrained(tmp_path / name)
        assert type(loaded) is InternVideoMAEModel
        assert_same(loaded(clips()), model.internvideo_mae(clips()))


# Against transformers' own VideoMAE


def as_stock(model, implementation: str, own_epsilon: bool):
    """Return the same weights in transformers' class, whose last layer norm has an epsilon that no setting reaches."""
    exported, weights, _ = export(model.config, model.state_dict())
    stock = type(exported)._from_config(exported.config, attn_implementation=implementation).eval()
    stock.load_state_dict(weights)
    last = stock.decoder.norm if hasattr(stock, "decoder") else stock.fc_norm
    if last is not None:
        assert last.eps == 1e-5
        last.eps = model.config.layer_norm_eps if own_epsilon else last.eps
    return stock


# With its epsilon of 1e-5 instead of 1e-6, a norm over numbers of variance v is smaller by 4.5e-6 / v.
TOLERANCES = {True: {"atol": 2e-5, "rtol": 1e-5}, False: {"atol": 1e-3, "rtol": 1e-3}}


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("own_epsilon", [True, False], ids=["our epsilon", "its epsilon"])
@pytest.mark.parametrize("use_mean_pooling", [True, False], ids=["mean", "first token"])
def test_classifier_equals_that_of_transformers(use_mean_pooling, own_epsilon, implementation):
    model, video, labels = classifier(use_mean_pooling=use_mean_pooling), clips(), torch.tensor([1, 4])
    model.set_attn_implementation(implementation)
    stock = as_stock(model, implementation, own_epsilon)
    expected, actual = stock(video, labels=labels), model(video, labels=labels)
    torch.testing.assert_close(actual.logits, expected.logits, **TOLERANCES[own_epsilon])
    torch.testing.assert_close(actual.loss, expected.loss, **TOLERANCES[own_epsilon])


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("own_epsilon", [True, False], ids=["our epsilon", "its epsilon"])
@pytest.mark.parametrize("normalized", [True, False], ids=["normalized cubes", "plain pixels"])
def test_pretraining_equals_that_of_transformers(normalized, own_epsilon, implementation):
    model, video, mask = pretraining(norm_pix_loss=normalized, qkv_bias=normalized), clips(), mask_of()
    model.set_attn_implementation(implementation)
    stock = as_stock(model, implementation, own_epsilon)
    expected, actual = stock(video, mask), model(video, mask)
    torch.testing.assert_close(actual.logits, expected.logits, **TOLERANCES[own_epsilon])
    torch.testing.assert_close(actual.loss, expected.loss, **TOLERANCES[own_epsilon])
