"""Speed and memory of VideoMAE, compared with transformers' own classes and with the original's computation.

python benchmarks/videomae.py [--rounds 5] [--only pretraining ...] [--quick]

ViT-B at 16 x 224 x 224 in float32 on two threads of one process; the three have the same weights and clip, and their
outputs are compared before timing. They alternate, in reversed order every second round; a ratio is the median of the
ratios within a round. Ratios of processor time (waiting threads use none) are valid on a shared machine, too. Prints
Markdown tables, as in README.md.

"original" reimplements InternVideo's modeling_finetune.py and modeling_pretrain.py below: one product for queries,
keys and values, attention step by step, all tubelets embedded by a convolution, the decoder over all tokens. Training
steps are forward and backward with fresh gradients, without an optimizer; pretraining masks 90 % in tubes. "Products
alone" are a model's matrix products without anything else, backward counted as twice forward: once by torch's matmul,
once by the kernel that `internvideo_hf.models.common.kernels.linear` chooses. Memory is the peak during one call minus
the memory before it, each in its own interpreter.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from side_by_side import as_row, environment, in_turns, peak_memory, ratios, timed  # sets what torch reads

# isort: split
import torch
import transformers
from torch import nn
from torch.nn import functional as F

from internvideo_hf.checkpoints.transformers_videomae import export
from internvideo_hf.models.common.kernels import linear
from internvideo_hf.models.internvideo_mae.configuration_internvideo_mae import InternVideoMAEConfig
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae import (
    InternVideoMAEForPreTraining,
    InternVideoMAEForVideoClassification,
)
from internvideo_hf.video.masking import MASKS

QUICK = dict(hidden_size=96, num_hidden_layers=2, num_attention_heads=3, image_size=64, num_frames=8)
QUICK |= dict(decoder_hidden_size=48, decoder_num_hidden_layers=1, decoder_num_attention_heads=3)
VARIANTS = ("original", "transformers", "ours")


@dataclass
class Case:
    """A row: the computation and the number of clips."""

    pretraining: bool
    backward: bool
    batch: int
    decoder_masking: bool = False

    def __str__(self) -> str:
        what = "pretraining step" if self.pretraining else "classification, forward"
        how = " with decoder masking" if self.decoder_masking else ""
        how = " + backward" if self.backward and not self.pretraining else how
        return f"{what}{how}, batch {self.batch}"


CASES = [Case(False, False, 1), Case(False, False, 2), Case(False, True, 1)]
CASES += [Case(True, True, batch, masking) for masking in (False, True) for batch in (1, 2)]


class Original(nn.Module):
    """The original's computation, on copies of our weights."""

    def __init__(self, ours: nn.Module):
        super().__init__()
        self.config, self.positions = ours.config, ours.internvideo_mae.positions.table
        self.decoder_positions = ours.decoder.positions.table if hasattr(ours, "decoder") else None
        self.weights = nn.ParameterDict()
        for name, tensor in ours.state_dict().items():
            self.weights[name.replace(".", "/")] = nn.Parameter(tensor.clone())
        for name in [name for name in self.weights if name.endswith("q_proj/weight")]:
            start = name.removesuffix("q_proj/weight")
            parts = [self.weights.pop(f"{start}{part}_proj/weight") for part in "qkv"]
            self.weights[f"{start}qkv"] = nn.Parameter(torch.cat([part.data for part in parts]))

    def get(self, name: str) -> torch.Tensor:
        return self.weights[name.replace(".", "/")]

    def linear(self, x: torch.Tensor, name: str, bias: bool = True) -> torch.Tensor:
        return F.linear(x, self.get(f"{name}.weight"), self.get(f"{name}.bias") if bias else None)

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        eps = self.config.layer_norm_eps
        return F.layer_norm(x, x.shape[-1:], self.get(f"{name}.weight"), self.get(f"{name}.bias"), eps)

    def block(self, x: torch.Tensor, name: str, heads: int) -> torch.Tensor:
        y = self.norm(x, f"{name}.layer_norm1")
        q_bias, v_bias = (self.get(f"{name}.self_attn.{part}_proj.bias") for part in "qv")
        qkv = F.linear(y, self.get(f"{name}.self_attn.qkv"), torch.cat([q_bias, torch.zeros_like(v_bias), v_bias]))
        q, k, v = qkv.reshape(*y.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
        attention = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1)
        x = x + self.linear((attention @ v).transpose(1, 2).reshape(y.shape), f"{name}.self_attn.out_proj")
        y = F.gelu(self.linear(self.norm(x, f"{name}.layer_norm2"), f"{name}.mlp.fc1"))
        return x + self.linear(y, f"{name}.mlp.fc2")

    def encode(self, video: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        weight, bias = (self.get(f"internvideo_mae.embeddings.{part}") for part in ("weight", "bias"))
        x = F.conv3d(video.transpose(1, 2), weight, bias, stride=weight.shape[2:]).flatten(2).transpose(1, 2)
        x = x + self.positions
        x = x if mask is None else x[~mask].reshape(len(x), -1, x.shape[-1])
        for index in range(self.config.num_hidden_layers):
            x = self.block(x, f"internvideo_mae.layers.{index}", self.config.num_attention_heads)
        return x

    def classify(self, video: torch.Tensor) -> torch.Tensor:
        pooled = self.norm(self.encode(video, None).mean(1), "internvideo_mae.pooler_layernorm")
        return self.linear(pooled, "classifier")

    def fill_in(self, video: torch.Tensor, mask: torch.Tensor, unwanted: torch.Tensor | None = None) -> torch.Tensor:
        """`unwanted`: decoder masking as in VideoMAE V2, which the original does not have; compared, but not timed."""
        x = self.norm(self.encode(video, mask), "internvideo_mae.layernorm")
        x = self.linear(x, "encoder_to_decoder", bias=False)
        table, wanted = self.decoder_positions.expand(len(x), -1, -1), mask if unwanted is None else ~unwanted
        seen, missing = (table[where].reshape(len(x), -1, x.shape[-1]) for where in (~mask, wanted))
        x = torch.cat([x + seen, self.get("decoder.mask_token") + missing], dim=1)
        for index in range(self.config.decoder_num_hidden_layers):
            x = self.block(x, f"decoder.layers.{index}", self.config.decoder_num_attention_heads)
        return self.linear(self.norm(x[:, -missing.shape[1] :], "decoder.layernorm"), "decoder.head")

    @torch.no_grad()
    def targets(self, video: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the targets of engine_for_pretraining.py: of all tubelets first, then of the masked ones."""
        c = self.config
        mean, std = (torch.tensor(values)[:, None, None] for values in (c.image_mean, c.image_std))
        x = (video * std + mean).unflatten(1, (-1, c.tubelet_size))
        x = x.unflatten(4, (-1, c.patch_size)).unflatten(6, (-1, c.patch_size))  # b t pt c h ph w pw
        x = x.permute(0, 1, 4, 6, 2, 5, 7, 3).flatten(4, 6).flatten(1, 3)  # b n p c
        x = (x - x.mean(2, keepdim=True)) / (x.var(2, keepdim=True).sqrt() + 1e-6)
        return x.flatten(2)[mask].reshape(len(x), -1, x[0, 0].numel())


def inputs(case: Case, config: InternVideoMAEConfig) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return a clip, its labels or its mask, and the decoder's mask."""
    torch.manual_seed(1)
    generator = np.random.RandomState(1)
    video = torch.randn(case.batch, config.num_frames, 3, config.image_size, config.image_size)
    if not case.pretraining:
        return video, torch.arange(case.batch), None
    side = config.image_size // config.patch_size
    grid = (config.num_frames // config.tubelet_size, side, side)
    hide, leave_out = (
        torch.from_numpy(np.stack([MASKS[rule](grid, ratio, generator=generator) for _ in range(case.batch)]))
        for rule, ratio in (("tube", 0.9), ("running_cell", 0.5))
    )
    return video, hide, leave_out if case.decoder_masking else None


def models(case: Case, quick: bool, names: tuple[str, ...] = VARIANTS) -> dict[str, nn.Module]:
    """Return the models with the same weights, in training mode if they train, without dropout."""
    torch.manual_seed(0)
    sizes = (QUICK if quick else {}) | dict(num_labels=400, use_mean_pooling=not case.pretraining, head_init_scale=1.0)
    config = InternVideoMAEConfig(**sizes)
    ours = (InternVideoMAEForPreTraining if case.pretraining else InternVideoMAEForVideoClassification)(config)
    nn.init.normal_(ours.decoder.mask_token if case.pretraining else ours.classifier.bias, std=0.02)
    found: dict[str, nn.Module] = {"ours": ours}
    if "transformers" in names:
        found["transformers"] = export(config, {name: tensor.clone() for name, tensor in ours.state_dict().items()})[0]
        assert found["transformers"].config._attn_implementation == ours.config._attn_implementation == "sdpa"
        for module in found["transformers"].modules():  # two of its norms ignore the config's epsilon
            if isinstance(module, nn.LayerNorm):
                module.eps = config.layer_norm_eps
    if "original" in names:
        found["original"] = Original(ours)
    return {name: found[name].train(case.backward) for name in names}


def answer(name: str, model: nn.Module, case: Case, video, given, unwanted) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the prediction of a variant, and its loss."""
    if name != "original":
        extra = {"decode_mask": ~unwanted} if case.decoder_masking and name == "ours" else {}
        output = model(video, **{"bool_masked_pos" if case.pretraining else "labels": given}, **extra)
        return output.logits, output.loss
    if case.pretraining:
        predicted = model.fill_in(video, given)
        return predicted, F.mse_loss(predicted, model.targets(video, given))
    predicted = model.classify(video)
    return predicted, F.cross_entropy(predicted, given)


def run(name: str, model: nn.Module, case: Case, *clip) -> None:
    """Run the timed computation."""
    model.zero_grad(set_to_none=True)
    with torch.set_grad_enabled(case.backward):
        loss = answer(name, model, case, *clip)[1]
        if case.backward:
            loss.backward()


@torch.no_grad()
def difference(found: dict[str, nn.Module], case: Case, *clip) -> str:
    """Return the maximum difference from our logits or reconstructed pixels, and of the loss."""
    if case.decoder_masking:  # which transformers lacks
        ours = answer("ours", found["ours"], case, *clip)[0]
        return f"{(ours - found['original'].fill_in(*clip)).abs().max():.0e} (decoder masking written out)"
    answers = {name: answer(name, model, case, *clip) for name, model in found.items()}
    ours = answers.pop("ours")
    furthest = max((a - b).abs().max() for other in answers.values() for a, b in zip(ours, other, strict=True))
    return f"{furthest:.0e}, largest value {ours[0].abs().max():.1f}"


def products(case: Case, config: InternVideoMAEConfig) -> list[tuple[int, tuple[int, ...]]]:
    """Return our matrix products as (count, (rows, inner, columns)), or (heads, n, m, d) in attention."""
    tubes = config.num_frames // config.tubelet_size
    places = (config.image_size // config.patch_size) ** 2
    hidden = tubes * int(0.9 * places) if case.pretraining else 0
    visible, wanted = tubes * places - hidden, hidden
    if case.decoder_masking:
        wanted = tubes * places // 2
    pixels = config.tubelet_size * config.patch_size**2 * 3
    found = [(1, (case.batch * visible, pixels, config.hidden_size))]
    stacks = [(config.num_hidden_layers, visible, config.hidden_size, config.num_attention_heads)]
    if case.pretraining:
        width = config.decoder_hidden_size
        stacks += [(config.decoder_num_hidden_layers, visible + wanted, width, config.decoder_num_attention_heads)]
        found += [(1, (case.batch * visible, config.hidden_size, width)), (1, (case.batch * wanted, width, pixels))]
    for layers, tokens, width, heads in stacks:
        rows = case.batch * tokens
        found += [(4 * layers, (rows, width, width)), (layers, (rows, width, 4 * width))]
        found += [(layers, (rows, 4 * width, width))]
        found += [(layers, (case.batch * heads, tokens, tokens, width // heads))]
    return found


def flops(case: Case, config: InternVideoMAEConfig) -> float:
    """Return 2 M K N summed over products, including attention's two; backward counts twice forward."""
    sizes = products(case, config)
    total = sum(count * 2 * np.prod(size, dtype=float) * (2 if len(size) == 4 else 1) for count, size in sizes)
    return total * (3 if case.backward else 1)


@torch.no_grad()
def products_alone(case: Case, config: InternVideoMAEConfig) -> dict[str, Callable[[], np.ndarray]]:
    """Return functions that time every product once and return the total seconds."""

    def prepare(count: int, size: tuple[int, ...]):
        if len(size) == 4:
            heads, n, m, d = size
            query, key, scores = torch.randn(heads, n, d), torch.randn(heads, d, m), torch.randn(heads, n, m)
            value = torch.randn(heads, m, d)
            return count, lambda product: (query @ key, scores @ value)
        rows, inner, columns = size
        x, weight, bias = torch.randn(1, rows, inner), torch.randn(columns, inner), torch.randn(columns)
        return count, lambda product: product(x, weight, bias)

    prepared = [prepare(*row) for row in products(case, config)]

    def seconds(product: Callable) -> np.ndarray:
        total = sum(count * timed(partial(call, product)) for count, call in prepared)
        return total * (3 if case.backward else 1)

    return {"matmul": lambda: seconds(F.linear), "linear": lambda: seconds(linear)}


def measure_speed(case: Case, rounds: int, quick: bool) -> tuple[str, str]:
    """Return the rows of the first and of the second table."""
    found = models(case, quick)
    config, clip = found["ours"].config, inputs(case, found["ours"].config)
    remark = difference(found, case, *clip)
    calls = {name: partial(timed, partial(run, name, model, case, *clip)) for name, model in found.items()}
    calls |= products_alone(case, config)
    times = in_turns(calls, rounds)
    seconds = {name: np.median(row[:, 0]) for name, row in times.items()}
    gains = ratios(times, "ours")

    cells = [str(case), *(f"{seconds[name]:.2f}" for name in VARIANTS)]
    for clock in (0, 1):
        cells += [f"{gains['transformers'][clock]:.2f}", f"{gains['original'][clock]:.2f}"]
    work = flops(case, config) / 1e9
    shares = [str(case), f"{work:,.0f}", f"{work / seconds['ours']:.0f}"]
    for bound in ("matmul", "linear"):
        shares += [f"{work / seconds[bound]:.0f}", f"{gains[bound][0]:.0%}", f"{gains[bound][1]:.0%}"]
    return as_row(*cells, remark), as_row(*shares)


def measure_memory(case: Case, name: str, quick: bool) -> None:
    """Print the peak memory of one call in bytes, minus the memory before it."""
    model = models(case, quick, (name,))[name]
    clip = inputs(case, model.config if name != "transformers" else InternVideoMAEConfig(**QUICK if quick else {}))
    print(json.dumps(peak_memory(partial(run, name, model, case, *clip))))


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
        return measure_memory(CASES[int(options.memory[0])], options.memory[1], options.quick)

    cases = [case for case in CASES if any(words in str(case) for words in options.only)]
    if not cases:
        parser.error(f"--only: no row has {options.only} in its name; the rows: {'; '.join(map(str, CASES))}")
    print(environment(), end="\n\n")
    columns = ["seconds", *VARIANTS, "transformers / ours", "original / ours"]
    columns += ["transformers / ours, processor time", "original / ours, processor time", "largest difference"]
    print(as_row(*columns), as_row("---", *["---:"] * 7, "---"), sep="\n", flush=True)
    shares = []

    def measure_all() -> None:
        for case in cases:
            row, share = measure_speed(case, options.rounds, options.quick)
            shares.append(share)
            print(row, flush=True)

    wall, busy = timed(measure_all)
    print(f"\nOn average the process had {busy / wall:.2f} of {os.cpu_count()} cores.\n")
    columns = ["GFLOP/s", "GFLOP", "ours", "matmul alone", "ours of it", "by processor time"]
    columns += ["`linear` alone", "ours of it", "by processor time"]
    print(as_row(*columns), as_row("---", *["---:"] * 8), *shares, sep="\n", end="\n\n")
    print(as_row("peak memory, MB", *VARIANTS), as_row("---", *["---:"] * 3), sep="\n", flush=True)
    for case in cases[: 1 if options.quick else None]:
        command = [sys.executable, __file__, *["--quick"] * options.quick, "--memory", str(CASES.index(case))]
        peaks = [subprocess.run([*command, name], stdout=subprocess.PIPE, text=True, check=True) for name in VARIANTS]
        print(as_row(str(case), *(f"{int(peak.stdout.splitlines()[-1]) / 1e6:,.0f}" for peak in peaks)), flush=True)


if __name__ == "__main__":
    main()
