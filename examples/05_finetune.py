"""Fine-tuning of a classifier on your own csv, built from its parts: manifest, samples, batches, Trainer.

    python examples/05_finetune.py

The videos are synthetic, and the bundled toy model knows drawn shapes only; replace them by your own list and a
converted model. From a shell, with a recipe (VideoMAE has its own):
`internvideo train uniformerv2/finetune_base --data-root FOLDER --start-from MODEL`.
"""

from pathlib import Path
from tempfile import mkdtemp

from transformers import AutoModelForVideoClassification, AutoVideoProcessor, pipeline

import internvideo_hf
from internvideo_hf import SampleSettings, VideoCollator, VideoDataset, VideoTrainer, VideoTrainingArguments

FOLDER = Path(mkdtemp(prefix="internvideo-"))

# 1. A list of videos with their classes: one `path,label` per line, labels from 0.
internvideo_hf.make_data_set(FOLDER, clips=24)
names = (FOLDER / "labels.txt").read_text().splitlines()
rows = internvideo_hf.load_manifest(FOLDER / "train.jsonl", FOLDER)
(FOLDER / "train.csv").write_text("".join(f"{row['video']},{row['label']}\n" for row in rows))
rows = internvideo_hf.load_manifest(FOLDER / "train.csv")
print(f"{len(rows)} videos of {len(names)} classes, such as {names[0]!r}")

# 2. The model. For new classes: from_pretrained(..., id2label=dict(enumerate(names)), ignore_mismatched_sizes=True)
#    initializes a new head.
start = internvideo_hf.demo_path("demo-classifier")
model = AutoModelForVideoClassification.from_pretrained(start)
processor = AutoVideoProcessor.from_pretrained(start)

# 3. Samples: random clips and augmentation for training, the processor's own preprocessing for validation.
pixels = {"size": 64, "mean": processor.image_mean, "std": processor.image_std}
pixels |= {"flip_probability": 0}  # left and right are classes here
frames = processor.num_frames
train_settings = SampleSettings(frames, "viclip_train", view="finetuning", view_options=pixels)
eval_settings = SampleSettings(frames, processor.sampler, view="processor", view_options={"processor": processor})

# 4. Training. VideoTrainer extends transformers' Trainer by layer-wise rates, the released schedules and an EMA.
rates = {"learning_rate": 1e-5, "layer_decay": 0.75, "decay_rule": "uniformerv2"}
args = VideoTrainingArguments(FOLDER / "run", num_train_epochs=1, eval_strategy="epoch", **rates)
trainer = VideoTrainer(
    model,
    args,
    train_dataset=VideoDataset(rows, train_settings),
    eval_dataset=VideoDataset(rows.select(range(12)), eval_settings),
    data_collator=VideoCollator(targets=["labels"], mixup={"num_labels": len(names)}),
    eval_collator=VideoCollator(targets=["labels"]),
    processing_class=processor,
)
trainer.train()
trainer.save_model(FOLDER / "model")

# 5. Inference.
print(pipeline("video-classification", model=str(FOLDER / "model"))(rows[0]["video"], top_k=2))
