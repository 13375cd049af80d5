"""Speed and memory of ViCLIP's towers, compared with the original's computation.

python benchmarks/viclip.py [--rounds 3] [--only video]

8 frames of 224 x 224 for the video tower, 32 texts of 32 tokens for the text tower, float32, two threads, forward.
Both have the same weights, and their outputs are compared before timing; they alternate, and a ratio is the median of
the ratios within a round. "original" is reimplemented below: tokens first, one product for queries, keys and values,
the kernel that `nn.MultiheadAttention` uses without returned weights, x * sigmoid(1.702 x) in two steps. Memory is the
peak during one call minus the memory before it, each in its own interpreter.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
from side_by_side import as_row, environment, in_turns, peak_memory, ratios, timed  # sets what torch reads

# isort: split
import torch
from torch import nn
from torch.nn import functional as F

from internvideo_hf import ViCLIPConfig, ViCLIPModel

SIZES = {
    "B/16": ({}, {}, 512),
    "L/14": (
        dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14),
        dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12, max_position_embeddings=32),
        768,
    ),
}
VARIANTS = ("original", "ours")
CASES = [(size, tower) for size in SIZES for tower in ("video", "text")]


class Original:
    """The original's computation on our weights, with queries, keys and values in one matrix."""

    def __init__(self, model: ViCLIPModel):
        self.weights, self.config = dict(model.state_dict()), model.config
        for name in [name for name in self.weights if ".q_proj." in name]:
            parts = [self.weights.pop(name.replace(".q_proj.", f".{part}_proj.")) for part in "qkv"]
            self.weights[name.replace(".q_proj.", ".in_proj.")] = torch.cat(parts)

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def block(self, x: torch.Tensor, name: str, heads: int, mask: torch.Tensor | None) -> torch.Tensor:
        y = self.linear(self.norm(x, f"{name}.layer_norm1"), f"{name}.self_attn.in_proj")
        q, k, v = (part.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3) for part in y.chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).permute(2, 0, 1, 3).reshape(x.shape)
        x = x + self.linear(y, f"{name}.self_attn.out_proj")
        y = self.linear(self.norm(x, f"{name}.layer_norm2"), f"{name}.mlp.fc1")
        return x + self.linear(y * torch.sigmoid(1.702 * y), f"{name}.mlp.fc2")

    def video(self, pixels: torch.Tensor) -> torch.Tensor:
        name, config = "vision_model.embeddings", self.config.vision_config
        kernel = self.weights[f"{name}.patch_embedding.weight"]
        x = F.conv3d(pixels.transpose(1, 2), kernel, stride=kernel.shape[2:]).flatten(3).permute(0, 3, 2, 1)
        places = self.weights[f"{name}.position_embedding"]
        x = (x + places[1:, None] + self.weights[f"{name}.temporal_embedding"]).flatten(1, 2)
        first = (self.weights[f"{name}.class_embedding"] + places[0]).expand(len(x), 1, -1)
        x = self.norm(torch.cat([first, x], dim=1), "vision_model.pre_layernorm").transpose(0, 1)
        for layer in range(config.num_hidden_layers):
            x = self.block(x, f"vision_model.layers.{layer}", config.num_attention_heads, None)
        return self.linear(self.norm(x, "vision_model.post_layernorm")[0], "visual_projection")

    def text(self, ids: torch.Tensor) -> torch.Tensor:
        name, config = "text_model.embeddings", self.config.text_config
        x = self.weights[f"{name}.token_embedding.weight"][ids] + self.weights[f"{name}.position_embedding.weight"]
        mask, x = torch.full(2 * ids.shape[1:], -torch.inf).triu(1), x.transpose(0, 1)
        for layer in range(config.num_hidden_layers):
            x = self.block(x, f"text_model.encoder.layers.{layer}", config.num_attention_heads, mask)
        x = self.norm(x.transpose(0, 1), "text_model.final_layer_norm")
        return self.linear(x[torch.arange(len(ids)), ids.argmax(dim=-1)], "text_projection")


def prepare(size: str, tower: str, names: tuple[str, ...] = VARIANTS) -> dict[str, Callable[[], torch.Tensor]]:
    """Return the two variants as functions without arguments."""
    vision, text, dim = SIZES[size]
    torch.manual_seed(0)
    model = ViCLIPModel(ViCLIPConfig(vision_config=vision, text_config=text or None, projection_dim=dim)).eval()
    nn.init.normal_(model.vision_model.embeddings.temporal_embedding, std=0.02)
    given = torch.randn(1, 8, 3, 224, 224) if tower == "video" else torch.randint(1, 49000, (32, 32))
    if tower == "text":
        given[:, 20] = 49407
    ours = model.get_video_features if tower == "video" else model.get_text_features
    found = {"ours": lambda: ours(given).pooler_output}
    if "original" in names:
        found["original"] = partial(getattr(Original(model), tower), given)
    return {name: found[name] for name in names}


def row(size: str, tower: str, rounds: int) -> str:
    calls = prepare(size, tower)
    answers = {name: call() for name, call in calls.items()}
    apart = (answers["ours"] - answers["original"]).abs().max()
    times = in_turns({name: partial(timed, call) for name, call in calls.items()}, rounds)
    peaks = {}
    for name in VARIANTS:
        command = [sys.executable, __file__, "--memory", size, tower, name]
        peaks[name] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 2**20
    cells = [f"{np.median(times[name][:, 0]):.2f}" for name in VARIANTS]
    cells += [f"{ratio:.2f}" for ratio in ratios(times, "ours")["original"]]
    cells += [f"{peaks[name]:.0f}" for name in VARIANTS]
    return as_row(f"{size} {tower}", *cells, f"{apart:.0e} of {answers['ours'].abs().max():.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["video", "text"], help="One of the two towers.")
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(2)
    with torch.no_grad():
        if options.memory:
            size, tower, name = options.memory
            print(json.dumps(peak_memory(prepare(size, tower, (name,))[name])))
            return
        print(f"{environment()}\n")
        print(
            as_row(
                "tower", "original, s", "ours, s", "ratio", "by processor time", "original, MB", "ours, MB", "apart"
            )
        )
        print(as_row("---", *["---:"] * 6, "---"))
        for size, tower in CASES:
            if options.only in (None, tower):
                print(row(size, tower, options.rounds), flush=True)


if __name__ == "__main__":
    main()
