"""Small VideoMAE files in the released layouts with random weights, to test conversion without a download.

python tests/released/random_videomae.py classifier.pth pretrained.pth
"""

import sys

import torch

WIDTH, LAYERS, DECODER_LAYERS, PATCH, TUBELET, CLASSES = 64, 2, 1, 16, 2, 400


def linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


def block(name: str) -> dict[str, tuple[int, ...]]:
    shapes = {f"{name}.attn.qkv.weight": (3 * WIDTH, WIDTH)}
    shapes |= {f"{name}.attn.{part}_bias": (WIDTH,) for part in "qv"}
    shapes |= norm(f"{name}.norm1") | norm(f"{name}.norm2") | linear(f"{name}.attn.proj", WIDTH, WIDTH)
    return shapes | linear(f"{name}.mlp.fc1", 4 * WIDTH, WIDTH) | linear(f"{name}.mlp.fc2", WIDTH, 4 * WIDTH)


def encoder(prefix: str = "") -> dict[str, tuple[int, ...]]:
    shapes = {f"{prefix}patch_embed.proj.weight": (WIDTH, 3, TUBELET, PATCH, PATCH)}
    shapes |= {f"{prefix}patch_embed.proj.bias": (WIDTH,)}
    for index in range(LAYERS):
        shapes |= block(f"{prefix}blocks.{index}")
    return shapes


def draw(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}
    return {name: weight + ("norm" in name and name.endswith("weight")) for name, weight in weights.items()}


def write_classifier(path: str) -> None:
    torch.save({"module": draw(encoder() | norm("fc_norm") | linear("head", CLASSES, WIDTH))}, path)


def write_pretrained(path: str) -> None:
    shapes = encoder("encoder.") | norm("encoder.norm") | norm("decoder.norm")
    shapes |= {"mask_token": (1, 1, WIDTH), "encoder_to_decoder.weight": (WIDTH, WIDTH)}
    for index in range(DECODER_LAYERS):
        shapes |= block(f"decoder.blocks.{index}")
    shapes |= linear("decoder.head", 3 * TUBELET * PATCH**2, WIDTH)
    torch.save({"model": draw(shapes), "epoch": 0}, path)


if __name__ == "__main__":
    write_classifier(sys.argv[1])
    write_pretrained(sys.argv[2])
