"""Inputs of the Trainer from a recipe."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from data.settings import write_videos
from training.recipes import CLASSIFICATION, write_data
from transformers import AutoVideoProcessor
from transformers.video_utils import VideoMetadata

from internvideo_hf import InternVideoMAEConfig, InternVideoVideoProcessor, load_recipe
from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.failures import FailureLog
from internvideo_hf.data.records import ManifestError
from internvideo_hf.data.shards import ShardDataset, write_shards
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.processing.tokenizer import build_clip_tokenizer
from internvideo_hf.training.inputs import (
    TrainingData,
    make_dataset,
    make_sampler,
    make_tokenizer,
    sample_settings,
    video_processor_of,
)
from internvideo_hf.training.recipes import ClipSettings, RecipeError, parse_recipe
from internvideo_hf.training.run import _processor

DATA = parse_recipe(CLASSIFICATION).data
PROCESSOR = InternVideoVideoProcessor(
    num_frames=3,
    size={"height": 16, "width": 20},
    do_center_crop=False,
    image_mean=[0.1] * 3,
    image_std=[0.2] * 3,
    channel_order="bgr",
)
CLIP = ClipSettings(sampler="uniformerv2_train", view="finetuning", view_options={"std": [0.3] * 3}, num_views=2)


def test_a_recipes_sampler_takes_no_options_of_the_presets():
    recipe = load_recipe("videomae/finetune_base_ssv2")
    processor = _processor(recipe.model.processor, InternVideoMAEConfig(), None)
    assert (processor.sampler, processor.sampler_kwargs) == ("videomae_sparse", {})
    indices = processor.sample_frames(VideoMetadata(total_num_frames=250, fps=25))
    assert indices[:3].tolist() == [0, 15, 31] and indices[-1] == 234  # tick = 250 / 16


def test_training_forgets_the_views_of_the_model_it_starts_from(tmp_path):
    InternVideoVideoProcessor(released_views=[5, 3]).save_pretrained(tmp_path)
    assert AutoVideoProcessor.from_pretrained(tmp_path).views == (5, 3)
    assert _processor({}, InternVideoMAEConfig(), str(tmp_path)).views == (1, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("inputs") / "data")


def test_training_samples_are_the_recipes_with_the_processors_pixels():
    settings = sample_settings(CLIP, PROCESSOR, training=True)
    assert (settings.num_frames, settings.sampler, settings.view, settings.num_views) == (
        3,
        "uniformerv2_train",
        "finetuning",
        2,
    )
    assert settings.channel_order == "bgr"
    assert settings.view_options == {"size": 16, "mean": [0.1] * 3, "std": [0.3] * 3}


def test_validation_samples_are_the_processors():
    settings = sample_settings(CLIP, PROCESSOR, training=False)
    assert (settings.view, settings.sampler, settings.num_views) == ("processor", PROCESSOR.sampler, 1)
    assert settings.view_options == {"processor": PROCESSOR}


def test_a_processor_of_texts_has_one_of_videos():
    both = InternVideoProcessor(PROCESSOR, build_clip_tokenizer(texts=["a clip"]))
    assert video_processor_of(both) is both.video_processor and video_processor_of(PROCESSOR) is PROCESSOR


def test_lists_are_read_with_their_classes(folder):
    data = TrainingData.read(DATA, "classification", folder)
    assert (len(data.train), len(data.validation), data.classes) == (8, 8, 8)
    data.check_labels(8)
    with pytest.raises(RecipeError, match="data.train has the label 7, expected 0 to 6"):
        data.check_labels(7)


def test_classes_are_counted_named_or_read(folder, tmp_path):
    def classes(labels, train="train.csv"):
        data = replace(DATA, train=train, labels=labels, validation=None)
        return TrainingData.read(data, "classification", folder).classes

    assert classes(None) == 8  # labels 0 to 7
    assert len(classes("k400")) == 400
    (folder / "names.txt").write_text("run\n\n walk \n")
    (folder / "two.csv").write_text("0.mp4,1\n1.mp4,0\n")
    assert classes("names.txt", "two.csv") == ["run", "walk"]
    with pytest.raises(ManifestError, match=r"train.csv, line 3: the label is 2, expected 0 to 1"):
        classes("names.txt")
    with pytest.raises(RecipeError, match="data.labels: got 'nowhere'"):
        classes("nowhere")


def test_labels_that_start_at_1_or_have_gaps_are_refused_where_classes_are_counted(folder):
    def read(numbers, labels=None):
        (folder / "some.csv").write_text("video,label\n" + "".join(f"{i}.mp4,{n}\n" for i, n in enumerate(numbers)))
        return TrainingData.read(
            replace(DATA, train="some.csv", labels=labels, validation=None), "classification", folder
        )

    with pytest.raises(RecipeError, match=r"up to 2, but none of 0; expected all from 0 on.*data.labels=3"):
        read([1, 2, 1, 2])
    with pytest.raises(RecipeError, match=r"up to 7, but none of 1, 3, 4, 5, 6; expected"):
        read([0, 2, 7])
    assert read([1, 2], labels=3).classes == 3
    with pytest.raises(RecipeError, match="There is one class, so there is nothing to learn"):
        read([0, 0]).check_labels(1)


def test_labels_that_are_names_name_the_classes(folder):
    def read(labels=None, validation="some.csv"):
        data = replace(DATA, train="named.csv", validation=validation, labels=labels)
        return TrainingData.read(data, "classification", folder)

    (folder / "named.csv").write_text("Clip;Action\n0.mp4;walk\n1.mp4;run, slowly\n2.mp4;walk\n")
    (folder / "some.csv").write_text("3.mp4 walk\n4.mp4 run, slowly\n")
    found = read()
    assert (found.classes, found.train["label"][:], found.validation["label"][:]) == (
        ["run, slowly", "walk"],
        [1, 0, 1],
        [1, 0],
    )
    (folder / "order.txt").write_text("walk\nrun, slowly\njump\n")
    found = read("order.txt")
    assert (found.classes, found.train["label"][:]) == (["walk", "run, slowly", "jump"], [0, 1, 0])
    with pytest.raises(RecipeError, match="data.labels is 5, and named.csv has 2 names"):
        read(5)
    (folder / "some.csv").write_text("3.mp4,fly\n")
    with pytest.raises(ManifestError, match="the label 'fly' is none of the 2 class names"):
        read()
    (folder / "order.txt").write_text("walk\nrun\nwalk\n")
    with pytest.raises(RecipeError, match="order.txt has walk twice"):
        read("order.txt")


def test_videos_without_a_file_are_skipped_as_the_recipe_says(folder):
    (folder / "some.csv").write_text("0.mp4,walk\nnone.mp4,walk\n1.mp4,run\n")
    data = replace(DATA, train="some.csv", validation=None, labels=None)
    assert len(TrainingData.read(replace(data, missing="skip"), "classification", folder).train) == 2
    with pytest.raises(ManifestError, match="there is no .*none.mp4"):
        TrainingData.read(data, "classification", folder)


def test_folders_of_clips_are_read_in_the_place_of_the_lists(folder, tmp_path, caplog):
    names = {"train/walk": (0, 1), "train/run": (2, 3), "validation/run": (4,)}
    for name, numbers in names.items():
        (tmp_path / name).mkdir(parents=True)
        for number in numbers:
            (tmp_path / name / f"{number}.mp4").symlink_to(folder / f"{number}.mp4")
    data = replace(DATA, validation="val.csv", labels=None)
    found = TrainingData.read(data, "classification", tmp_path)
    assert (found.classes, found.train["label"][:], found.validation["label"][:]) == (
        ["run", "walk"],
        [0, 0, 1, 1],
        [0],
    )
    assert found.paths == {"data.train": tmp_path / "train", "data.validation": tmp_path / "validation"}
    assert f"There is no {tmp_path}/train.csv; {tmp_path}/train is read." in caplog.text
    with pytest.raises(
        RecipeError, match=r"no val.csv for validation; .*train holds run/, walk/.*data.validation=null"
    ):
        TrainingData.read(data, "classification", tmp_path / "train")
    alone = TrainingData.read(replace(data, validation=None), "classification", tmp_path / "train")
    assert alone.train["label"][:] == [0, 0, 1, 1]


def test_classes_without_a_video_are_said(folder, caplog):
    (folder / "some.csv").write_text("video,label\n0.mp4,1\n1.mp4,2\n")
    data = TrainingData.read(replace(DATA, train="some.csv", labels=4, validation=None), "classification", folder)
    data.check_labels(4)
    assert "2 of 4 classes have no training video: 0, 3. Is the list complete" in caplog.text


def test_rows_lack_nothing_that_the_task_needs(folder):
    with pytest.raises(RecipeError, match="rows without a caption, which contrastive needs"):
        TrainingData.read(DATA, "contrastive", folder)


def test_captions_have_the_fewest_words_that_the_recipe_sets(folder, tmp_path):
    (folder / "words.csv").write_text("video,caption\n0.mp4,one two\n1.mp4,one two three\n")
    found = TrainingData.read(replace(DATA, train="words.csv", validation=None, min_words=3), "contrastive", folder)
    assert found.train["caption"][:] == ["one two three"] and found.classes is None


def test_lists_and_shards_make_datasets(folder, tmp_path):
    rows, settings = write_videos(tmp_path, 2), sample_settings(CLIP, PROCESSOR, training=True)
    write_shards(rows, tmp_path / "shards", samples_per_shard=1)
    listed = make_dataset(rows, settings, training=True, seed=5)
    assert isinstance(listed, VideoDataset) and (listed.seed, listed.failures) == (5, None)
    log = FailureLog(tmp_path / "failures.jsonl")
    options = {"failures": log, "rank": 1, "world_size": 2}
    trained = make_dataset(tmp_path / "shards", settings, training=True, **options)
    assert isinstance(trained, ShardDataset) and trained.failures is log
    assert (trained.rank, trained.world_size, trained.repeat, trained.shuffle) == (1, 2, True, 1000)
    validated = make_dataset(tmp_path / "shards", settings, training=False, **options)
    assert (validated.rank, validated.world_size, validated.repeat, validated.shuffle) == (0, 1, False, 0)


def test_shards_have_no_number_of_classes(tmp_path):
    write_shards(write_videos(tmp_path, 1), tmp_path / "train.csv")
    with pytest.raises(RecipeError, match="number of classes is unknown"):
        TrainingData.read(replace(DATA, labels=None, validation=None), "classification", tmp_path)


def test_samplers_and_tokenizers_are_made_where_the_recipe_wants_them(folder):
    assert make_sampler(DATA, folder, PROCESSOR, torch.nn.Linear(1, 1), 8, 0) is None
    assert make_tokenizer(None, folder, None) is None
    captions = TrainingData.read(replace(DATA, train="captions.csv", validation=None), "contrastive", folder)
    words = make_tokenizer("captions", captions.train, None).get_vocab()
    assert "number</w>" in words and "zebra</w>" not in words
