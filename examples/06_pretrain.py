"""Masked pretraining of VideoMAE on your own videos, then fine-tuning, both from recipes.

    python examples/06_pretrain.py

The videos are synthetic, and the models are too small and trained too briefly to be useful. From a shell:

    internvideo train videomae/pretrain_small --data-root FOLDER --output-dir pretrained
    internvideo train videomae/finetune_base model.size=small --data-root FOLDER --start-from pretrained/final

On several GPUs: torchrun --nproc-per-node 8 -m internvideo_hf.cli train ... Rerun it after an interruption to resume.
"""

from pathlib import Path
from tempfile import mkdtemp

import internvideo_hf

FOLDER = Path(mkdtemp(prefix="internvideo-"))
internvideo_hf.make_data_set(FOLDER / "data", clips=12)

# Overrides of recipe settings; `internvideo recipes videomae/pretrain_small` shows their names.
SMALL = [
    "model.config.hidden_size=48",
    "model.config.num_attention_heads=4",
    "model.config.num_hidden_layers=2",
    "model.config.image_size=64",
    "model.config.num_frames=8",
    "data.train=train.jsonl",
    "data.validation=val.jsonl",
    "batch_size=8",
    "training.per_device_train_batch_size=8",
    "training.num_train_epochs=1",
    "training.warmup_epochs=0.5",
    "training.dataloader_num_workers=0",
]

pretraining = internvideo_hf.load_recipe("videomae/pretrain_small", [*SMALL, "model.config.decoder_hidden_size=48"])
pretrained = internvideo_hf.train(pretraining, FOLDER / "data", FOLDER / "pretrained")

finetuning = internvideo_hf.load_recipe("videomae/finetune_base", [*SMALL, "data.labels=labels.txt"])
classifier = internvideo_hf.train(finetuning, FOLDER / "data", FOLDER / "run", start=pretrained)

print(f"Pretrained: {pretrained}\nFine-tuned: {classifier}")
print("Run directory:", ", ".join(sorted(path.name for path in (FOLDER / "run").iterdir())))
