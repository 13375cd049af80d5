"""Speed and memory of UniFormerV2, compared with the original's computation and with transformers' CLIP.

python benchmarks/uniformerv2.py [--rounds 5] [--only forward ...] [--quick]

B/16 at 8 x 224 x 224 (motion models: 16 frames) in float32 on two threads of one process, with the same weights and
clip; outputs are compared before timing. Variants alternate; a ratio is the median of the ratios within a round.

"original" reimplements the released code below: tokens first, `nn.MultiheadAttention` in the backbone, attention of
the global blocks step by step, local blocks as 3-D convolutions. "CLIP" is transformers' `CLIPVisionModel` (sdpa),
frame by frame in one batch, against our backbone alone, which is the same network. Memory is the peak during one call
minus the memory before it, each in its own interpreter.
"""

import argparse
import json
import subprocess
import sys
from functools import partial

import numpy as np
from side_by_side import as_row, environment, in_turns, peak_memory, ratios, timed  # sets what torch reads

# isort: split
import torch
import transformers
from torch import nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModel

from internvideo_hf.models.uniformerv2.configuration_uniformerv2 import UniFormerV2Config
from internvideo_hf.models.uniformerv2.modeling_uniformerv2 import UniFormerV2ForVideoClassification

QUICK = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=3, image_size=64, global_layers=[1, 2])
CASES = {  # name -> task, with backward pass, backbone only, batch
    "forward, batch 1": ("scene", False, False, 1),
    "forward, batch 2": ("scene", False, False, 2),
    "forward + backward, batch 1": ("scene", True, False, 1),
    "motion, forward, batch 1": ("motion", False, False, 1),
    "motion, forward + backward, batch 1": ("motion", True, False, 1),
    "backbone only, forward, batch 1": ("scene", False, True, 1),
    "backbone only, forward + backward, batch 1": ("scene", True, True, 1),
}


class Original(nn.Module):
    """The original's computation, on copies of our weights."""

    def __init__(self, ours: UniFormerV2ForVideoClassification):
        super().__init__()
        self.config = ours.config
        self.rest = nn.ParameterDict(
            {name.replace(".", "/"): nn.Parameter(tensor.clone()) for name, tensor in ours.named_parameters()}
        )
        width, heads = self.config.hidden_size, self.config.num_attention_heads
        self.attention = nn.ModuleList([nn.MultiheadAttention(width, heads) for _ in ours.vision_model.layers])
        for index, module in enumerate(self.attention):
            start = f"vision_model/layers/{index}/self_attn/"
            for kind in ("weight", "bias"):
                parts = [self.rest.pop(f"{start}{part}_proj/{kind}").data for part in "qkv"]
                getattr(module, f"in_proj_{kind}").data = torch.cat(parts)
                getattr(module.out_proj, kind).data = self.rest.pop(f"{start}out_proj/{kind}").data
        self.local_norms = nn.ModuleDict()
        for name, module in ours.named_modules():
            if isinstance(module, nn.BatchNorm1d):
                norm = self.local_norms[name.replace(".", "/")] = nn.BatchNorm3d(width)
                norm.load_state_dict(module.state_dict())

    def get(self, name: str) -> torch.Tensor:
        return self.rest[name.replace(".", "/")]

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, self.get(f"{name}.weight"), self.get(f"{name}.bias"))

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.get(f"{name}.weight"), self.get(f"{name}.bias"))

    def mlp(self, x: torch.Tensor, name: str) -> torch.Tensor:
        x = self.linear(x, f"{name}.fc1")
        return self.linear(x * torch.sigmoid(1.702 * x), f"{name}.fc2")

    def local(self, x: torch.Tensor, name: str, frames: int, side: int) -> torch.Tensor:
        patches = x[1:].unflatten(0, (side, side)).unflatten(2, (-1, frames))  # h w n t c
        y = self.local_norms[f"{name}.batch_norm".replace(".", "/")](patches.permute(2, 4, 3, 0, 1))
        y = F.conv3d(
            y, self.get(f"{name}.down_proj.weight")[..., None, None, None], self.get(f"{name}.down_proj.bias")
        )
        kernel = self.get(f"{name}.temporal_conv.weight")[..., None, None]
        y = F.conv3d(y, kernel, self.get(f"{name}.temporal_conv.bias"), padding=(1, 0, 0), groups=len(kernel))
        y = F.conv3d(y, self.get(f"{name}.up_proj.weight")[..., None, None, None], self.get(f"{name}.up_proj.bias"))
        patches = patches + y.permute(3, 4, 0, 2, 1)
        return torch.cat([x[:1], patches.flatten(2, 3).flatten(0, 1)])

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        c, tower = self.config, "vision_model."
        weight = self.get(f"{tower}embeddings.patch_embedding.weight")
        depth = weight.shape[2]
        stride = (1 if depth == 1 else 2, c.patch_size, c.patch_size)
        x = F.conv3d(video.transpose(1, 2), weight, stride=stride, padding=(depth // 2, 0, 0))
        batch, _, frames, side = x.shape[:4]
        x = x.permute(0, 2, 3, 4, 1).flatten(2, 3).flatten(0, 1)
        start = self.get(f"{tower}embeddings.class_embedding").expand(len(x), 1, -1)
        x = torch.cat([start, x], dim=1) + self.get(f"{tower}embeddings.position_embedding")
        x = self.norm(x, f"{tower}pre_layernorm").permute(1, 0, 2)
        token = self.get(f"{tower}video_embedding").expand(1, batch, -1)
        for index in range(c.num_hidden_layers):
            name = f"{tower}layers.{index}"
            if c.num_local_blocks > 0:
                x = self.local(x, f"{name}.local_block1", frames, side)
            y = self.norm(x, f"{name}.layer_norm1")
            x = x + self.attention[index](y, y, y, need_weights=False)[0]
            if c.num_local_blocks > 1:
                x = self.local(x, f"{name}.local_block2", frames, side)
            x = x + self.mlp(self.norm(x, f"{name}.layer_norm2"), f"{name}.mlp")
            if index in c.global_layers:
                token = self.see(token, x, f"{tower}global_blocks.{list(c.global_layers).index(index)}", frames, side)
        classes = x[0].unflatten(0, (batch, frames)).mean(1)
        gate = self.get(f"{tower}fusion_gate").sigmoid()
        return self.linear(self.norm((1 - gate) * token[0] + gate * classes, "layernorm"), "classifier")

    def see(self, token: torch.Tensor, x: torch.Tensor, name: str, frames: int, side: int) -> torch.Tensor:
        x = x.unflatten(1, (-1, frames))  # 1 + h w, n, t, c
        volume = x[1:].permute(1, 3, 2, 0).unflatten(3, (side, side))
        conv = f"{name}.position_conv"
        volume = F.conv3d(volume, self.get(f"{conv}.weight"), self.get(f"{conv}.bias"), padding=1, groups=x.shape[-1])
        x = torch.cat([x[:1], x[1:] + volume.flatten(3).permute(3, 0, 2, 1)])
        x = self.norm(x.transpose(1, 2).flatten(0, 1), f"{name}.layer_norm_context")
        heads = self.config.num_global_attention_heads
        q, k, v = (
            self.linear(y, f"{name}.cross_attn.{part}_proj").unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)
            for part, y in (("q", self.norm(token, f"{name}.layer_norm_query")), ("k", x), ("v", x))
        )
        attention = (q @ k.transpose(-2, -1) * k.shape[-1] ** -0.5).softmax(-1)
        y = (attention @ v).permute(2, 0, 1, 3).flatten(2)
        token = token + self.linear(y, f"{name}.cross_attn.out_proj")
        return token + self.mlp(self.norm(token, f"{name}.layer_norm_mlp"), f"{name}.mlp")


def config_of(task: str, backbone_only: bool, quick: bool) -> UniFormerV2Config:
    changes = (QUICK if quick else {}) | dict(num_labels=400, global_dropout=0.0, classifier_dropout=0.0)
    changes |= dict(drop_path_rate=0.0, global_drop_path_rate=0.0)
    return UniFormerV2Config.from_size("base", task, **changes | ({"global_layers": []} if backbone_only else {}))


def models(case: str, quick: bool, names: tuple[str, ...] | None = None) -> dict[str, nn.Module]:
    """Return the variants of a row with the same nonzero weights, in training mode if they train."""
    task, backward, backbone_only, _ = CASES[case]
    torch.manual_seed(0)
    ours = UniFormerV2ForVideoClassification(config_of(task, backbone_only, quick))
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    if backbone_only:
        clip = clip_backbone(ours)
        found = {"CLIP": clip, "ours": ours.vision_model}
    else:
        found = {"original": Original(ours), "ours": ours}
    return {name: found[name].train(backward) for name in names or found}


def clip_backbone(ours: UniFormerV2ForVideoClassification) -> CLIPVisionModel:
    shared = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size")
    shared += ("patch_size", "hidden_act", "layer_norm_eps")
    clip = CLIPVisionModel(CLIPVisionConfig(**{key: getattr(ours.config, key) for key in shared}))
    assert clip.config._attn_implementation == ours.config._attn_implementation == "sdpa"
    weights = {}
    for name, tensor in ours.vision_model.state_dict().items():
        name = name.replace("pre_layernorm", "pre_layrnorm").replace("layers.", "encoder.layers.", 1)
        name = name.replace("position_embedding", "position_embedding.weight")
        weights[name] = tensor[:, :, 0] if name.endswith("patch_embedding.weight") else tensor
    missing, unexpected = clip.load_state_dict(weights, strict=False)
    assert all("post_layernorm" in name for name in missing), missing
    assert set(unexpected) == {"video_embedding", "fusion_gate"}, unexpected
    return clip


def answer(name: str, model: nn.Module, video: torch.Tensor) -> torch.Tensor:
    if name == "CLIP":
        return model(video.flatten(0, 1)).last_hidden_state.reshape(len(video), -1, model.config.hidden_size)
    if name == "original":
        return model(video)
    outputs = model(video)
    return outputs.logits if "logits" in outputs else outputs.last_hidden_state


def run(name: str, model: nn.Module, backward: bool, video: torch.Tensor) -> None:
    """Run the timed computation."""
    model.zero_grad(set_to_none=True)
    with torch.set_grad_enabled(backward):
        output = answer(name, model, video)
        if backward:
            output.square().mean().backward()


def clip_of(case: str, config: UniFormerV2Config) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(CASES[case][3], config.num_frames, 3, config.image_size, config.image_size)


def measure(case: str, rounds: int, quick: bool) -> str:
    _, backward, backbone_only, _ = CASES[case]
    found = models(case, quick)
    video, peer = clip_of(case, found["ours"].config), next(iter(found))
    with torch.no_grad():
        answers = [answer(name, model, video) for name, model in found.items()]
    difference = f"{(answers[0] - answers[1]).abs().max():.0e} of {answers[1].abs().max():.1f}"
    calls = {name: partial(timed, partial(run, name, model, backward, video)) for name, model in found.items()}
    times = in_turns(calls, rounds)
    seconds = {name: np.median(row[:, 0]) for name, row in times.items()}
    gain = ratios(times, "ours")[peer]
    cells = [f"{seconds[peer]:.2f}", f"{seconds['ours']:.2f}", f"{gain[0]:.2f}", f"{gain[1]:.2f}"]
    peaks = []
    for name in found:
        command = [sys.executable, __file__, *["--quick"] * quick, "--memory", case, name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        peaks.append(f"{json.loads(done.stdout.splitlines()[-1]) / 1e6:,.0f}")
    return as_row(case, peer, *cells, *peaks, difference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="use a small model, to check that the script runs")
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="WORDS", help="words in the names of the rows to run"
    )
    parser.add_argument("--memory", nargs=2, metavar=("ROW", "VARIANT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(2)
    transformers.utils.logging.set_verbosity_error()
    if options.memory:
        case, name = options.memory
        model = models(case, options.quick, (name,))[name]
        video = clip_of(case, config_of(CASES[case][0], CASES[case][2], options.quick))
        print(json.dumps(peak_memory(partial(run, name, model, CASES[case][1], video))))
        return
    cases = [case for case in CASES if any(words in case for words in options.only)]
    if not cases:
        parser.error(f"--only: no row has {options.only} in its name; the rows: {'; '.join(CASES)}")
    print(environment(), end="\n\n")
    columns = ["", "peer", "peer, s", "ours, s", "ratio", "ratio, processor time"]
    print(as_row(*columns, "peer, MB", "ours, MB", "largest difference"))
    print(as_row("---", "---", *["---:"] * 6, "---"), flush=True)
    for case in cases:
        print(measure(case, options.rounds, options.quick), flush=True)


if __name__ == "__main__":
    main()
