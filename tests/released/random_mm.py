"""A small InternVideo-MM file in the released layout with random weights, to test conversion without a download.

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


def write_random_checkpoint(path: str) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {
        f"clip.{name}": torch.randn(shape, generator=generator) * 0.1 for name, shape in released_shapes().items()
    }
    weights["clip.logit_scale"].fill_(4.6052)
    torch.save({"state_dict": weights, "epoch": 0, "global_step": 0}, path)


if __name__ == "__main__":
    write_random_checkpoint(sys.argv[1])
