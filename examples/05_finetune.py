"""Fine-tuning a classifier on a csv of your own videos, with the parts in sight: list, samples, batches, Trainer.

    python examples/05_finetune.py

The videos are made here, and the model is the small one that comes with the package and knows drawn shapes only. With
your own list and a converted model it is the real thing. So is, from a shell, and for VideoMAE with its own recipe,
`internvideo train uniformerv2/finetune_base --data-root FOLDER --start-from MODEL`.
"""

from pathlib import Path
from tempfile import mkdtemp

from transformers import AutoModelForVideoClassification, AutoVideoProcessor, pipeline

import internvideo_hf
from internvideo_hf import SampleSettings, VideoCollator, VideoDataset, VideoTrainer, VideoTrainingArguments

FOLDER = Path(mkdtemp(prefix="internvideo-"))

# 1. A list of videos with their classes, `path,label` a line, counted from 0.
internvideo_hf.make_data_set(FOLDER, clips=24)
names = (FOLDER / "labels.txt").read_text().splitlines()
rows = internvideo_hf.load_manifest(FOLDER / "train.jsonl", FOLDER)
(FOLDER / "train.csv").write_text("".join(f"{row['video']},{row['label']}\n" for row in rows))
rows = internvideo_hf.load_manifest(FOLDER / "train.csv")
print(f"{len(rows)} videos of {len(names)} classes, such as {names[0]!r}")

# 2. The model. With other classes than its own: from_pretrained(..., id2label=dict(enumerate(names)),
#    ignore_mismatched_sizes=True), which draws a new head.
start = internvideo_hf.demo_path("demo-classifier")
model = AutoModelForVideoClassification.from_pretrained(start)
processor = AutoVideoProcessor.from_pretrained(start)

# 3. How a video becomes a sample: drawn anew in every epoch, or, for validation, as the processor makes it.
pixels = {"size": 64, "mean": processor.image_mean, "std": processor.image_std}
pixels |= {"flip_probability": 0}  # left and right are classes here
frames = processor.num_frames
drawn = SampleSettings(frames, "viclip_train", view="finetuning", view_options=pixels)
plain = SampleSettings(frames, processor.sampler, view="processor", view_options={"processor": processor})

# 4. Train. The Trainer is transformers' own, with layer-wise rates, the released schedules and averaged weights.
rates = {"learning_rate": 1e-5, "layer_decay": 0.75, "decay_rule": "uniformerv2"}
args = VideoTrainingArguments(FOLDER / "run", num_train_epochs=1, eval_strategy="epoch", **rates)
trainer = VideoTrainer(
    model,
    args,
    train_dataset=VideoDataset(rows, drawn),
    eval_dataset=VideoDataset(rows.select(range(12)), plain),
    data_collator=VideoCollator(targets=["labels"], mixup={"num_labels": len(names)}),
    eval_collator=VideoCollator(targets=["labels"]),
    processing_class=processor,
)
trainer.train()
trainer.save_model(FOLDER / "model")

# 5. Use.
print(pipeline("video-classification", model=str(FOLDER / "model"))(rows[0]["video"], top_k=2))
