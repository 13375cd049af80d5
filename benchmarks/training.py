"""A training step of VideoMAE: our model with `VideoTrainer`, and transformers' own with the stock Trainer.

python benchmarks/training.py [--sizes tiny base] [--steps 4] [--rounds 3]

Both start from the same weights, see the same clips in memory and take the same AdamW steps: the first losses are
compared before timing. The time is that of `train()` over the given number of steps, without startup.
"""

import argparse
import tempfile
import time
from functools import partial

import numpy as np
import torch
from side_by_side import as_row, environment, in_turns, ratios
from transformers import Trainer, TrainerCallback, TrainingArguments, VideoMAEForVideoClassification

from internvideo_hf import (
    InternVideoMAEConfig,
    InternVideoMAEForVideoClassification,
    VideoTrainer,
    VideoTrainingArguments,
)
from internvideo_hf.checkpoints.transformers_videomae import export

SIZES = {
    "tiny": {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 3, "image_size": 64, "num_frames": 8},
    "base": {},
}
BATCH = {"tiny": 8, "base": 1}


class Clock(TrainerCallback):
    """Seconds from the end of the first step to the end of the last."""

    def on_step_end(self, args, state, control, **kwargs):
        now = torch.tensor([time.perf_counter(), time.process_time()], dtype=torch.float64)
        if state.global_step == 1:
            self.start = now
        self.passed = (now - self.start).numpy()


def models(size: str) -> dict[str, torch.nn.Module]:
    """Return the same classifier twice."""
    torch.manual_seed(0)
    ours = InternVideoMAEForVideoClassification(InternVideoMAEConfig(**SIZES[size], num_labels=400, head_init_scale=1))
    theirs, weights, _ = export(ours.config, ours.state_dict())
    theirs = VideoMAEForVideoClassification(theirs.config)
    theirs.load_state_dict(weights, strict=False)
    return {"transformers": theirs, "ours": ours}


def run(name: str, model: torch.nn.Module, size: str, steps: int) -> tuple:
    """Return the times of a training run, and its first loss."""
    kind, kind_of_args = {
        "transformers": (Trainer, TrainingArguments),
        "ours": (VideoTrainer, VideoTrainingArguments),
    }[name]
    config = model.config
    shape = (config.num_frames, 3, config.image_size, config.image_size)
    key = {"transformers": "pixel_values", "ours": "pixel_values_videos"}[name]
    clips = [
        {key: torch.randn(shape, generator=torch.Generator().manual_seed(index)), "labels": index % 400}
        for index in range(BATCH[size])
    ]
    with tempfile.TemporaryDirectory() as folder:
        args = kind_of_args(
            folder,
            max_steps=steps + 1,
            per_device_train_batch_size=BATCH[size],
            learning_rate=1e-6,
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            report_to="none",
        )
        clock = Clock()
        trainer = kind(model, args, train_dataset=clips, callbacks=[clock])
        trainer.pop_callback(next(c for c in trainer.callback_handler.callbacks if "Printer" in type(c).__name__))
        trainer.train()
    return clock.passed, next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)


def time_of(*arguments) -> np.ndarray:
    return run(*arguments)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--steps", type=int, default=4, help="steps of a timed training")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of which the median is printed")
    arguments = parser.parse_args()
    print(environment(), end="\n\n")
    print(as_row("size, batch", "ours, clips/s", "ratio to transformers (wall)", "ratio (processor)"))
    print(as_row("---", "---", "---", "---"))
    for size in arguments.sizes:
        both = models(size)
        first = {name: run(name, model, size, 1)[1] for name, model in models(size).items()}
        torch.testing.assert_close(first["ours"], first["transformers"], rtol=1e-4, atol=1e-4)
        calls = {name: partial(time_of, name, model, size, arguments.steps) for name, model in both.items()}
        times = in_turns(calls, arguments.rounds)
        wall, processor = ratios(times, "ours")["transformers"]
        speed = BATCH[size] * arguments.steps / sorted(times["ours"][:, 0])[arguments.rounds // 2]
        print(as_row(f"{size}, {BATCH[size]}", f"{speed:.2f}", f"{wall:.2f}", f"{processor:.2f}"), flush=True)


if __name__ == "__main__":
    main()
