"""A small ViCLIP file in the released layout with random weights, to test conversion without a download.

python tests/released/random_viclip.py small.pth
"""

import sys

import torch

WIDTH, LAYERS, PATCH, GRID, FRAMES, VOCAB, CONTEXT = 64, 2, 32, 7, 8, 49408, 32


def linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def layers(name: str) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for block in (f"{name}.transformer.resblocks.{i}" for i in range(LAYERS)):
        shapes |= {f"{block}.attn.in_proj_weight": (3 * WIDTH, WIDTH), f"{block}.attn.in_proj_bias": (3 * WIDTH,)}
        shapes |= linear(f"{block}.attn.out_proj", WIDTH, WIDTH)
        shapes |= linear(f"{block}.mlp.c_fc", 4 * WIDTH, WIDTH) | linear(f"{block}.mlp.c_proj", WIDTH, 4 * WIDTH)
        shapes |= {f"{block}.{norm}.{kind}": (WIDTH,) for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")}
    return shapes


def released_shapes() -> dict[str, tuple[int, ...]]:
    shapes = {
        "temp": (),
        "vision_encoder.class_embedding": (WIDTH,),
        "vision_encoder.positional_embedding": (1 + GRID**2, WIDTH),
        "vision_encoder.temporal_positional_embedding": (1, FRAMES, WIDTH),
        "vision_encoder.conv1.weight": (WIDTH, 3, 1, PATCH, PATCH),
        "vision_encoder.proj": (WIDTH, WIDTH),
        "text_encoder.token_embedding.weight": (VOCAB, WIDTH),
        "text_encoder.positional_embedding": (CONTEXT, WIDTH),
        "text_encoder.text_projection": (WIDTH, WIDTH),
    }
    for norm in ("vision_encoder.ln_pre", "vision_encoder.ln_post", "text_encoder.ln_final"):
        shapes |= {f"{norm}.weight": (WIDTH,), f"{norm}.bias": (WIDTH,)}
    return shapes | layers("vision_encoder") | layers("text_encoder")


def write_random_viclip(path: str, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in released_shapes().items()}
    weights["temp"].fill_(0.01)
    torch.save({"model": weights}, path)


if __name__ == "__main__":
    write_random_viclip(sys.argv[1])
