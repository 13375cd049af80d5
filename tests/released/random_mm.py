"""Small InternVideo-MM files in the released layout with random weights, to test conversion without a download.

python tests/released/random_mm.py small.ckpt
"""

import sys

import torch

WIDTH, LAYERS, GLOBAL_BLOCKS, PATCH, GRID, VOCAB, CONTEXT = 64, 3, 2, 32, 7, 49408, 77


def linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def layer(name: str, norms: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    shapes = {f"{name}.attn.in_proj_weight": (3 * WIDTH, WIDTH), f"{name}.attn.in_proj_bias": (3 * WIDTH,)}
    shapes |= linear(f"{name}.attn.out_proj", WIDTH, WIDTH)
    shapes |= linear(f"{name}.mlp.c_fc", 4 * WIDTH, WIDTH) | linear(f"{name}.mlp.c_proj", WIDTH, 4 * WIDTH)
    return shapes | {f"{name}.{norm}.{kind}": (WIDTH,) for norm in norms for kind in ("weight", "bias")}


def released_shapes() -> dict[str, tuple[int, ...]]:
    shapes = {
        "visual.conv1.weight": (WIDTH, 3, 1, PATCH, PATCH),
        "visual.class_embedding": (WIDTH,),
        "visual.positional_embedding": (1 + GRID**2, WIDTH),
        "visual.transformer.temporal_cls_token": (1, 1, WIDTH),
        "visual.transformer.balance": (WIDTH,),
        "visual_proj": (WIDTH, WIDTH),
        "text_projection": (WIDTH, WIDTH),
        "token_embedding.weight": (VOCAB, WIDTH),
        "positional_embedding": (CONTEXT, WIDTH),
        "text_mask_embedding": (1, 1, WIDTH),
        "logit_scale": (),
    }
    for norm in ("visual.ln_pre", "visual_ln_post", "ln_final"):
        shapes |= {f"{norm}.weight": (WIDTH,), f"{norm}.bias": (WIDTH,)}
    for i in range(LAYERS):
        shapes |= layer(f"visual.transformer.resblocks.{i}", ("ln_1", "ln_2"))
        shapes |= layer(f"transformer.resblocks.{i}", ("ln_1", "ln_2"))
    for i in range(GLOBAL_BLOCKS):
        shapes |= layer(f"visual.transformer.dec.{i}", ("ln_1", "ln_2", "ln_3"))
        shapes |= {
            f"visual.transformer.dpe.{i}.weight": (WIDTH, 1, 3, 3, 3),
            f"visual.transformer.dpe.{i}.bias": (WIDTH,),
        }
    return shapes


def decoder_shapes(layers: int = 2, head_dim: int = 32, queries: int = 6) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the caption decoder without its buffers of frequencies, section 1 of the specification."""

    def norm(name: str) -> dict[str, tuple[int, ...]]:
        return {f"{name}.{kind}": (WIDTH,) for kind in ("gamma", "beta")}

    inner = 4 * WIDTH
    shapes = {"visual_queries": (queries, WIDTH)}
    shapes |= norm("visual_attn_pooler.norm") | norm("visual_attn_pooler.context_norm")
    shapes |= {
        "visual_attn_pooler.to_q.weight": (WIDTH, WIDTH),
        "visual_attn_pooler.to_kv.weight": (2 * head_dim, WIDTH),
        "visual_attn_pooler.to_out.weight": (WIDTH, WIDTH),
    }
    for i in range(layers):
        own, cross = f"multimodal_layers.{i}.0.fn", f"multimodal_layers.{i}.1.fn"
        shapes |= norm(f"{own}.norm") | norm(f"{cross}.norm")
        shapes |= {
            f"{own}.fused_attn_ff_proj.weight": (WIDTH + 2 * head_dim + 2 * inner, WIDTH),
            f"{own}.attn_out.weight": (WIDTH, WIDTH),
            f"{own}.ff_out.1.weight": (WIDTH, inner),
            f"{cross}.to_q.weight": (WIDTH, WIDTH),
            f"{cross}.to_kv.weight": (2 * head_dim, WIDTH),
            f"{cross}.to_out.weight": (WIDTH, WIDTH),
            f"{cross}.ff.0.weight": (2 * inner, WIDTH),
            f"{cross}.ff.2.weight": (WIDTH, inner),
        }
    for name in ("visual_pooler_norm", "text_norm"):
        shapes |= {f"{name}.{kind}": (WIDTH,) for kind in ("weight", "bias")}
    return {f"caption_decoder.{name}": shape for name, shape in shapes.items()}


def predictor_shapes() -> dict[str, tuple[int, ...]]:
    shapes = linear("0", 1, WIDTH) | linear("3", 1, WIDTH)
    shapes = {name: (WIDTH,) for name in shapes} | linear("1", WIDTH, WIDTH) | linear("4", VOCAB, WIDTH)
    return {f"caption_decoder.predictor.{name}": shape for name, shape in shapes.items()}


def answer_shapes(answers: int) -> dict[str, tuple[int, ...]]:
    width = 3 * WIDTH
    shapes = linear("1", 2 * width, width) | linear("5", answers, 2 * width)
    shapes |= {"2.weight": (2 * width,), "2.bias": (2 * width,)}
    return {f"vqa_classifier.{name}": shape for name, shape in shapes.items()}


def write(path: str, shapes: dict[str, tuple[int, ...]]) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}
    weights["clip.logit_scale"].fill_(4.6052)
    torch.save({"state_dict": weights, "epoch": 0, "global_step": 0}, path)


def towers() -> dict[str, tuple[int, ...]]:
    return {f"clip.{name}": shape for name, shape in released_shapes().items()}


def write_random_checkpoint(path: str) -> None:
    """Write the towers alone."""
    write(path, towers())


def write_captioner(path: str, layers: int = 2) -> None:
    """Write towers and caption decoder."""
    write(path, towers() | decoder_shapes(layers) | predictor_shapes())


def write_answerer(path: str, answers: int) -> None:
    """Write a question-answering fine-tune: towers without projections, a decoder without predictor, a head.

    Args:
        path: the file.
        answers: classes of the head.
    """
    without = ("clip.visual_proj", "clip.text_projection")
    shapes = {name: shape for name, shape in towers().items() if name not in without}
    write(path, shapes | decoder_shapes() | answer_shapes(answers))


if __name__ == "__main__":
    write_random_checkpoint(sys.argv[1])
