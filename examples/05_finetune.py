"""Fine-tuning VideoMAE on a csv of your own videos, with the parts in sight: list, samples, batches, Trainer.

    python examples/05_finetune.py

The videos are made here, and 24 of them and a model this small teach nothing. With your own list and a converted model
it is the real thing; so is `internvideo train videomae/finetune_base --data-root FOLDER --start-from MODEL`.
"""

from pathlib import Path
from tempfile import mkdtemp

from transformers import pipeline

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

# 2. The model. For a real one: ....from_pretrained("vit-b-pretrained", id2label=dict(enumerate(names)))
sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 64, "num_frames": 8}
config = internvideo_hf.InternVideoMAEConfig(**sizes, id2label=dict(enumerate(names)))
model = internvideo_hf.InternVideoMAEForVideoClassification(config)
processor = internvideo_hf.build_processor(config)

# 3. How a video becomes a sample: drawn anew in every epoch, or, for validation, as the processor makes it.
pixels = {"size": 64, "mean": processor.image_mean, "std": processor.image_std}
pixels |= {"flip_probability": 0}  # left and right are classes here
drawn = SampleSettings(num_frames=8, sampler="videomae_dense_train", view="finetuning", view_options=pixels)
plain = SampleSettings(
    num_frames=8, sampler="videomae_dense_validation", view="processor", view_options={"processor": processor}
)

# 4. Train. The Trainer is transformers' own, with layer-wise rates, the released schedules and averaged weights.
args = VideoTrainingArguments(FOLDER / "run", num_train_epochs=1, layer_decay=0.75, eval_strategy="epoch")
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
