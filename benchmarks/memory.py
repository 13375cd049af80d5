"""Training memory per GPU, computed from the models' sizes, as in README.md.

python benchmarks/memory.py
"""

import torch
from model_memory import STRATEGIES, activation_memory, model_memory

from internvideo_hf import (
    InternVideoMAEConfig,
    InternVideoMAEForVideoClassification,
    UniFormerV2Config,
    UniFormerV2ForVideoClassification,
)

GPUS = (1, 8, 64)
with torch.device("meta"):
    huge, large = (InternVideoMAEConfig.from_size(size, num_labels=400) for size in ("huge", "large"))
    uniformer = UniFormerV2Config.from_size("large", num_labels=400)
    MODELS = {  # and the tokens of a clip, class tokens included
        "VideoMAE-H": (InternVideoMAEForVideoClassification(huge), 8 * 14 * 14),
        "VideoMAE-L": (InternVideoMAEForVideoClassification(large), 8 * 14 * 14),
        "UniFormerV2-L": (UniFormerV2ForVideoClassification(uniformer), 8 * (16 * 16 + 1)),
    }


def main() -> None:
    print("| model | strategy | " + " | ".join(f"{gpus} GPU{'s' * (gpus > 1)}" for gpus in GPUS) + " |")
    print("|---|---|" + "---:|" * len(GPUS))
    for name, (model, _) in MODELS.items():
        for strategy in STRATEGIES:
            cells = [cell(model, strategy=strategy, devices=gpus, precision="bfloat16") for gpus in GPUS]
            print(f"| {name} | {strategy} | " + " | ".join(cells) + " |")
    print("\n| activations of one clip | all kept | checkpointed |\n|---|---:|---:|")
    for name, (model, tokens) in MODELS.items():
        config = model.config
        sizes = (tokens, config.hidden_size, config.intermediate_size, config.num_hidden_layers, 1)
        both = [
            activation_memory(*sizes, precision="bfloat16", checkpointed=checkpointed)
            for checkpointed in (False, True)
        ]
        print(f"| {name} | " + " | ".join(f"{size / 1e9:.2f}" for size in both) + " |")


def cell(model: torch.nn.Module, **options) -> str:
    without = f"{model_memory(model, **options).total / 1e9:.2f}"
    if options["strategy"] == "zero3":
        return without
    return f"{without} + {model_memory(model, average=True, **options).average / 1e9:.2f}"


if __name__ == "__main__":
    main()
