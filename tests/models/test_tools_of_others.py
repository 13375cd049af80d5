"""Every family's classifier with the tools of transformers, accelerate and torch."""

import io
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from models.tiny_classifiers import FAMILIES, write_classifiers
from PIL import Image
from transformers import AutoModelForVideoClassification, AutoVideoProcessor, Trainer, TrainingArguments, pipeline
from transformers.integrations import sdpa_attention

from internvideo_hf import InternVideoFusedVideoProcessor, VideoReader


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifiers(tmp_path_factory.mktemp("classifiers"))


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, 9, 40, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize("family", FAMILIES)
def test_pipeline_of_transformers_answers_as_the_model_alone_and_in_batches(family, classifiers, noise):
    folder = classifiers / family
    stock, videos = pipeline("video-classification", model=folder, device="cpu"), list(noise)
    pixels = AutoVideoProcessor.from_pretrained(folder)(videos, return_tensors="pt")
    with torch.no_grad():
        scores = AutoModelForVideoClassification.from_pretrained(folder).eval()(**pixels).logits.softmax(-1)
    expected = [
        {label: row[number] for number, label in stock.model.config.id2label.items()} for row in scores.tolist()
    ]
    alone = [stock(video) for video in videos]
    streamed = stock((video for video in videos), batch_size=2)
    for answers in (alone, stock(videos), stock(videos, batch_size=2), streamed):
        for found, row in zip(answers, expected, strict=True):
            assert {one["label"]: one["score"] for one in found} == pytest.approx(row, rel=1e-5)
    assert stock.feature_extractor is None


def test_pipeline_of_transformers_is_as_it_was_for_other_models(tmp_path, noise):
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEVideoProcessor

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = VideoMAEForVideoClassification(VideoMAEConfig(**sizes, image_size=32, num_frames=4))
    stock = pipeline("video-classification", model=model, video_processor=VideoMAEVideoProcessor(), batch_size=2)
    with pytest.raises(ValueError, match="cannot do batching"):
        stock(list(noise))


@pytest.mark.parametrize("family", FAMILIES)
def test_dynamic_quantization_replaces_every_linear_layer(family, classifiers, noise):
    folder = classifiers / family
    model = AutoModelForVideoClassification.from_pretrained(folder).eval()
    pixels = AutoVideoProcessor.from_pretrained(folder)(list(noise), return_tensors="pt")
    quantized = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear})
    layers = [name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)]
    assert len(layers) > 15
    for name in layers:
        assert type(quantized.get_submodule(name)) is torch.ao.nn.quantized.dynamic.Linear, name
    with torch.no_grad():
        before, after = model(**pixels).logits, quantized(**pixels).logits
    assert 0 < (after - before).norm() < 0.05 * before.norm()  # one step of 8 bits is 0.4 % of the largest weight


@pytest.mark.parametrize("family", FAMILIES)
def test_attentions_that_the_kernel_does_not_compute_come_with_advice(family, classifiers, noise, monkeypatch):
    said = []
    monkeypatch.setattr(sdpa_attention.logger, "warning_once", said.append)
    model = AutoModelForVideoClassification.from_pretrained(classifiers / family, attn_implementation="sdpa")
    pixels = AutoVideoProcessor.from_pretrained(classifiers / family)(noise[0], return_tensors="pt")
    assert not model(**pixels).attentions and not said
    assert not model(**pixels, output_attentions=True).attentions
    assert "set your attention to `eager`" in said[0]
    model.set_attn_implementation("eager")
    layers = len(model(**pixels, output_hidden_states=True).hidden_states) - 1
    if family == "uniformer":  # whose early stages convolve
        layers -= sum(model.config.depths[:2])
    assert len(model(**pixels, output_attentions=True).attentions) == layers


@pytest.mark.parametrize("task", ["video-classification", "multi-view-video-classification"])
@pytest.mark.parametrize("family", FAMILIES)
def test_saved_pipeline_loads_and_answers_the_same(family, task, classifiers, noise, tmp_path):
    before = pipeline(task, model=classifiers / family, device="cpu")
    before.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.glob("*.py")] == ["internvideo_loader.py"]  # and no copy of a class
    assert pipeline(task, model=tmp_path, device="cpu")(noise[0]) == before(noise[0])


@pytest.mark.parametrize("task", ["video-classification", "multi-view-video-classification"])
def test_columns_of_datasets_are_several_videos(task, classifiers, bikes):
    column = datasets.Dataset.from_dict({"video": [str(bikes)] * 3}).cast_column("video", datasets.Video(decode=False))
    classify = pipeline(task, model=classifiers / "uniformerv2", device="cpu")
    best = classify(str(bikes))[0]["label"]
    assert [answer[0]["label"] for answer in classify(column["video"], batch_size=2)] == [best] * 3


TASKS = {
    "video-classification": {},
    "zero-shot-video-classification": {"candidate_labels": "a dog, a cat"},
    "video-text-retrieval": {"texts": ["a dog", "a cat"]},
}
KINDS = {
    "stream": iter,
    "stream of images": lambda frames: map(Image.fromarray, frames),
    "stream of tensors": lambda frames: iter(torch.tensor(frames).permute(0, 3, 1, 2)),
    "list": list,
    "images": lambda frames: [Image.fromarray(frame) for frame in frames],
    "tensor": torch.tensor,
    "tensor, channels first": lambda frames: torch.tensor(frames).permute(0, 3, 1, 2),
    "reader": lambda frames: VideoReader(frames, fps=5),
    "row": lambda frames: {"path": None, "bytes": _gif(frames)},
    "file": lambda frames: io.BytesIO(_gif(frames)),
    "decoded row": lambda frames: SimpleNamespace(_hf_encoded={"path": None, "bytes": _gif(frames)}),
}


def _gif(frames: np.ndarray) -> bytes:
    first, *others = [Image.fromarray(frame[..., 0]) for frame in frames]  # gray: 256 colors, without loss
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=others, duration=200)
    return file.getvalue()


@pytest.mark.parametrize("task", [*TASKS, pytest.param("multi-view-video-classification", marks=pytest.mark.slow)])
def test_every_pipeline_takes_frames_of_every_kind_alone_and_in_batches(task, classifiers, small_folder, noise):
    options = TASKS.get(task, {})
    answer = pipeline(task, model=small_folder if options else classifiers / "uniformerv2", device="cpu")
    gray = noise[0, ..., :1].repeat(3, axis=-1)
    expected = answer(gray, **options)
    for kind in ("stream", "decoded row"):
        assert answer(KINDS[kind](gray), **options) == expected, kind
    several = [kind(gray) for kind in KINDS.values()]
    both, same = (
        answer(videos, batch_size=len(KINDS), **options) for videos in (several, np.stack([gray] * len(KINDS)))
    )
    assert both == same
    assert len(both["similarity"] if "texts" in options else both) == len(KINDS)


@pytest.mark.parametrize("family", ["uniformerv2", "internvideo"])
def test_processors_take_columns_and_streams(family, classifiers, bikes, noise):
    process = AutoVideoProcessor.from_pretrained(classifiers / family)
    column = datasets.Dataset.from_dict({"video": [str(bikes)] * 2}).cast_column("video", datasets.Video(decode=False))
    given = {
        "column": (column["video"], [str(bikes)] * 2),
        "rows": ([row["video"] for row in column], [str(bikes)] * 2),
        "frames": ((frame for frame in noise[0]), noise[0]),
        "videos": ((video for video in noise), list(noise)),
    }
    for name, (source, same) in given.items():
        found, expected = process(source, return_tensors="pt"), process(same, return_tensors="pt")
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.equal(found[key], value), name


def test_reader_takes_a_stream_of_frames(noise):
    with VideoReader(frame for frame in noise[0]) as reader:
        assert np.array_equal(reader.read([8, 0]), noise[0][[8, 0]])


def test_fused_processor_takes_frames_that_were_sampled_before(classifiers, noise):
    encoders = AutoVideoProcessor.from_pretrained(classifiers / "internvideo").encoders
    whole = InternVideoFusedVideoProcessor(**encoders, do_sample_frames=False)(noise[0], return_tensors="pt")
    assert {pixels.shape[1] for pixels in whole.values()} == {9}


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_on_disk_are_read_when_they_are_needed(family, classifiers, noise, tmp_path):
    folder = classifiers / family
    pixels = AutoVideoProcessor.from_pretrained(folder)(noise[0], return_tensors="pt")
    model = AutoModelForVideoClassification.from_pretrained(folder).eval()
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    with torch.no_grad():
        expected = model(**pixels).logits
        for options in ({"device_map": {"": "disk"}}, {"device_map": "auto", "max_memory": {"cpu": int(0.6 * size)}}):
            split = AutoModelForVideoClassification.from_pretrained(folder, offload_folder=tmp_path, **options).eval()
            assert "disk" in split.hf_device_map.values()
            # Weights in a mapped file lie at other addresses, for which the kernels round differently.
            torch.testing.assert_close(split(**pixels).logits, expected, atol=1e-6, rtol=1e-6)


def test_saved_pipelines_of_video_and_text_load_and_answer_the_same(small_folder, noise, tmp_path):
    texts, videos = ["a cat", "a dog"], list(noise)
    found = []
    for folder in (small_folder, tmp_path):
        classify = pipeline("zero-shot-video-classification", model=folder, device="cpu", candidate_labels=texts)
        retrieve = pipeline("video-text-retrieval", model=folder, device="cpu")
        similarity = {one["label"]: one["similarity"] for one in classify(videos[0])}
        found.append([*(similarity[text] for text in texts), *np.ravel(retrieve(videos, texts=texts)["similarity"])])
        if folder == small_folder:
            classify.save_pretrained(tmp_path)
    # Weights of another file lie at other addresses, for which the kernels round differently.
    assert found[1] == pytest.approx(found[0], abs=1e-6)
    assert [path.name for path in tmp_path.glob("*.py")] == ["internvideo_loader.py"]  # and no copy of a class


@pytest.mark.parametrize("family", FAMILIES)
def test_trainer_of_transformers_learns_from_a_column_of_videos(family, classifiers, bikes, tmp_path):
    rows = datasets.Dataset.from_dict({"video": [str(bikes)] * 2, "label": [1, 1]})
    rows = rows.cast_column("video", datasets.Video(decode=False))
    process = AutoVideoProcessor.from_pretrained(classifiers / family)

    def collate(batch: list[dict]) -> dict[str, torch.Tensor]:
        pixels = process([row["video"] for row in batch], return_tensors="pt")
        return {**pixels, "labels": torch.tensor([row["label"] for row in batch])}

    model = AutoModelForVideoClassification.from_pretrained(classifiers / family)
    arguments = TrainingArguments(
        str(tmp_path), max_steps=2, logging_steps=1, learning_rate=0.01, warmup_steps=0, remove_unused_columns=False,
        per_device_train_batch_size=2, report_to="none", save_strategy="no", use_cpu=True,
    )  # fmt: skip
    before = collate(list(rows))
    with torch.no_grad():
        start = model.eval()(**before).loss
    Trainer(model, arguments, train_dataset=rows, data_collator=collate).train()
    with torch.no_grad():
        assert model.eval()(**before).loss < start
