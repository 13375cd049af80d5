"""Recipes: complete, buildable, and equal to a second transcription below."""

import inspect
import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from internvideo_hf.checkpoints.families.actionformer import settings_of
from internvideo_hf.checkpoints.families.internvideo_mm import TABLE as MM
from internvideo_hf.checkpoints.released import released_rows
from internvideo_hf.checkpoints.table import released_name
from internvideo_hf.data.layouts import LAYOUTS
from internvideo_hf.data.records import MANIFEST_SUFFIXES
from internvideo_hf.data.samples import VIEWS, SampleSettings
from internvideo_hf.models.internvideo_mm.configuration_internvideo_mm import InternVideoMMConfig
from internvideo_hf.models.internvideo_mm.modeling_internvideo_mm import InternVideoMMModel
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.recipes.captions import clean_caption
from internvideo_hf.recipes.labels import load_labels
from internvideo_hf.recipes.reading import TRAININGS
from internvideo_hf.tasks.question_answering.data import LAYOUTS as QUESTIONS
from internvideo_hf.training.inputs import TrainingData
from internvideo_hf.training.parameter_groups import parameter_groups
from internvideo_hf.training.recipes import (
    Recipe,
    RecipeError,
    build_model,
    load_recipe,
    parse_recipe,
    recipe_names,
)
from internvideo_hf.training.schedules import SCHEDULES
from internvideo_hf.training.trainer import VideoTrainer, VideoTrainingArguments
from internvideo_hf.video.mixup import mix_batch
from internvideo_hf.video.sampling import SAMPLERS

# The others have tests of their own.
NAMES = [name for name in recipe_names() if not name.startswith(("demo/", "internvideo/"))]
SOME = "videomae/finetune_base_k400"
CLASSES_OF_THE_LIST = 7  # of a recipe that takes its classes from the list of videos


@cache
def recipe(name: str) -> Recipe:
    return load_recipe(name)


def classes(name: str) -> int | None:
    """How many classes a recipe's model tells apart; None where it tells none."""
    if recipe(name).model.task == "question_answering":
        return CLASSES_OF_THE_LIST
    if recipe(name).model.task not in ("classification", "open_set", "action_detection"):
        return None
    labels = recipe(name).data.labels
    return len(load_labels(labels)) if isinstance(labels, str) else labels or CLASSES_OF_THE_LIST


def build(name: str):
    with torch.device("meta"):
        return build_model(recipe(name).model, classes(name))


def video_config(config):
    return getattr(config, "vision_config", config)


# ---- every recipe is whole ------------------------------------------------------------------------------------------


def test_every_released_family_has_recipes():
    assert {name.partition("/")[0] for name in NAMES} == {
        "question_answering",
        "videomae",
        "uniformerv2",
        "internvideo_mm",
        "viclip",
        "retrieval",
        "temporal_localization",
        "temporal_grounding",
        "open_set",
        "action_detection",
        "ego4d",
    }
    assert not [name for name in NAMES if "/_" in name]


@pytest.mark.parametrize("name", NAMES)
def test_recipe_says_what_it_is(name):
    found = recipe(name)
    assert found.title and found.source and (found.devices or any("devices" in note for note in found.notes))
    assert found.expected.value is not None or found.expected.note
    rows = {row["name"]: row for row in released_rows()}
    start = found.model.start
    assert start in {None, "CLIP", *rows, *NAMES}
    without_start = ("pretraining", "temporal_localization", "temporal_grounding", "object_detection")
    assert (start is None) == (found.model.task in without_start)
    if start in rows:
        assert rows[start]["family"] == found.model.family


@pytest.mark.parametrize("name", [name for name in NAMES if recipe(name).model.family != "transformers"])
def test_recipe_makes_its_model(name):
    found, model = recipe(name), build(name)
    if found.model.task == "classification":
        assert model.config.num_labels == classes(name) == model.classifier.out_features
    if found.model.freeze:
        model.freeze_backbone(*found.model.freeze)
    if found.model.lora is not None:
        model = with_lora(model, found.model.lora)
    training = found.training
    groups = parameter_groups(
        model, training["learning_rate"], 0.05, training.get("layer_decay", 1.0), training["decay_rule"]
    )
    assert sum(len(group["names"]) for group in groups) == sum(p.requires_grad for p in model.parameters())


def with_lora(model: torch.nn.Module, options: dict) -> torch.nn.Module:
    """Return the model with LoRA in every module that the options name, or fail; unwrapped from peft."""
    peft = pytest.importorskip("peft")
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**options), low_cpu_mem_usage=True)
    trained = {name for name, parameter in wrapped.named_parameters() if parameter.requires_grad}
    for target in options["target_modules"]:
        assert any(f".{target}.lora_A." in name for name in trained), target
    saved = {name.split(".")[-4] for name in trained if ".modules_to_save." in name}
    assert saved == set(options.get("modules_to_save", []))
    return wrapped.get_base_model()


@pytest.mark.parametrize("name", [name for name in NAMES if recipe(name).data.clip is not None])
def test_recipe_makes_its_clips(name):
    found, config = recipe(name), video_config(build(name).config)
    clip, processor = found.data.clip, InternVideoVideoProcessor(**found.model.processor)
    assert found.model.processor.keys() <= InternVideoVideoProcessor.valid_kwargs.__annotations__.keys() | {
        "size",
        "resize_method",
    }
    assert "generator" not in inspect.signature(SAMPLERS[processor.sampler]).parameters  # it is for evaluation
    filled = {"size": config.image_size, "mean": [0.5] * 3, "std": [0.5] * 3, "processor": processor}
    wanted = inspect.signature(VIEWS[clip.view]).parameters
    settings = SampleSettings(
        num_frames=config.num_frames,
        sampler=clip.sampler,
        sampler_options=clip.sampler_options,
        view=clip.view,
        view_options={key: value for key, value in filled.items() if key in wanted} | clip.view_options,
        num_views=clip.num_views,
        mask=clip.mask,
        channel_order=processor.channel_order,
    )
    assert (settings.mask is not None) == (found.model.task == "pretraining")
    if settings.mask is not None:
        assert (settings.mask["patch_size"], settings.mask["tubelet_size"]) == (config.patch_size, config.tubelet_size)


@pytest.mark.parametrize("name", NAMES)
def test_recipe_reads_its_data(name):
    data, task = recipe(name).data, recipe(name).model.task
    assert data.layout is None or data.layout in (QUESTIONS if task == "question_answering" else LAYOUTS)
    assert all(Path(file).suffix in MANIFEST_SUFFIXES for file in (data.train, data.validation) if file)
    if data.mixup is not None:
        inspect.signature(mix_batch).bind(None, None, 2, generator=None, **data.mixup)
    if data.caption_rule is not None:
        assert clean_caption("A dog.", data.caption_rule) == "a dog"
    if task not in ("contrastive", "captioning"):
        assert (data.caption_rule, data.equal_captions, data.min_words) == (None, None, 1)


@pytest.mark.parametrize("name", NAMES)
def test_recipe_trains(name, tmp_path):
    found = recipe(name)
    options = found.training | {"fp16": False, "bf16": False, "use_cpu": True, "report_to": "none"}
    arguments = VideoTrainingArguments(tmp_path, **options)
    steps, rate = max(1000, 10 * int(found.training.get("warmup_steps", 0))), arguments.learning_rate
    if arguments.max_steps > 0:
        steps = arguments.max_steps
    if arguments.schedule is None:  # one of transformers' own
        warmup = 0 if found.model.task == "temporal_grounding" else steps / 10
        assert arguments.lr_scheduler_type == "linear" and arguments.get_warmup_steps(steps) == warmup
        return
    assert arguments.schedule in SCHEDULES
    shares = [
        SCHEDULES[arguments.schedule](
            step,
            steps,
            arguments.get_warmup_steps(steps),
            arguments.warmup_learning_rate / rate,
            arguments.min_learning_rate / rate,
        )
        for step in (0, steps // 2, steps)
    ]
    assert all(0 <= share <= 1 for share in shares) and shares[1] > shares[2]
    at_once = found.devices * arguments.per_device_train_batch_size
    assert found.batch_size % at_once == 0
    # What accumulates does not compare its pairs with each other.
    if found.model.task == "contrastive" or "small_gpu" not in name and "own" not in found.title:
        assert at_once == found.batch_size
    assert not (arguments.grad_cache and found.model.task != "contrastive")


# ---- the numbers once more, from the descriptions of the originals --------------------------------------------------

# Run -> batch over all devices, learning rate, epochs, epochs of warm-up, drop path, dropout of the head, layer decay,
# views of a clip. VideoMAE's rates are those of 256 videos.
VIDEOMAE = {
    "base_k400": (32 * 16, 1e-3, 100, 5, 0.1, 0, 0.75, 2),
    "base_ssv2": (16 * 16, 2e-3, 25, 5, 0.1, 0, 0.65, 2),
    "base_anet": (16 * 16, 1e-3, 100, 5, 0.1, 0, 0.75, 2),
    "large_k400": (32 * 6, 2e-3, 40, 5, 0.2, 0, 0.75, 2),
    "large_k700": (32 * 6, 2e-3, 40, 5, 0.2, 0, 0.75, 2),
    "large_ssv2": (32 * 12, 5e-4, 30, 5, 0.2, 0, 0.75, 1),
    "huge_k400": (32 * 4, 1e-3, 35, 5, 0.2, 0.5, 0.8, 2),
    "huge_k600": (32 * 4, 1e-3, 40, 5, 0.2, 0.5, 0.8, 2),
    "huge_k710": (32 * 4, 1e-3, 40, 5, 0.2, 0.5, 0.8, 2),
    "huge_k700": (32 * 8, 3e-4, 75, 5, 0.2, 0.5, 0.8, 1),
    "huge_k400_sparse": (32 * 8, 3e-4, 75, 5, 0.2, 0.5, 0.8, 1),
    "huge_ssv2": (32 * 8, 5e-4, 30, 5, 0.2, 0.3, 0.8, 1),
    "huge_k400_from_k600": (32 * 4, 5e-4, 15, 3, 0.3, 0.5, 0.8, 2),
    "huge_k400_from_k710": (8 * 4, 2e-6, 3, 1, 0.2, 0.5, 0.8, 2),
    "huge_k600_from_k710": (8 * 4, 2e-6, 3, 1, 0.2, 0.5, 0.8, 2),
    "huge_k700_from_k710": (8 * 4, 2e-6, 3, 1, 0.2, 0.5, 0.8, 2),
}

# Run -> batch, rate of 256 videos, last rate, epochs, epochs of warm-up, views, layers and width of the decoder
VIDEOMAE_PRETRAINING = {
    "base": (32 * 64, 1.5e-4, 1e-5, 801, 40, 1, 4, 384),
    "large": (48 * 24, 1.5e-4, 1e-5, 801, 40, 1, 12, 512),
    "huge": (64 * 6, 1e-3, 5e-5, 301, 15, 4, 8, 512),
}

# Data set, size, frames, start -> nodes, batch of a node, learning rate, epochs, epochs of warm-up, drop path of the
# trunk and of the global blocks. `k` stands for each of the smaller Kinetics sets, `ssv1` for V2 too.
UNIFORMERV2 = {
    ("k710", "base", 8, "CLIP"): (1, 256, 1e-5, 55, 5, 0, 0),
    ("k710", "large", 8, "CLIP"): (4, 128, 1e-5, 40, 5, 0, 0),
    ("k710", "large336", 8, "CLIP"): (4, 64, 5e-6, 40, 5, 0, 0),
    ("k710", "frozen336", 8, "CLIP"): (4, 128, 8e-4, 50, 0, 0, 0),
    ("k", "base", 8, "CLIP"): (1, 256, 1e-5, 55, 5, 0, 0),
    ("k", "frozen336", 8, "CLIP"): (2, 256, 8e-4, 50, 0, 0, 0),
    ("k", "base", 8, "UniFormerV2-B K710 8x224"): (1, 256, 2e-6, 5, 1, 0, 0),
    ("k", "large", 8, "UniFormerV2-L K710 8x224"): (2, 128, 1.5e-6, 5, 1, 0, 0),
    ("k", "large", 16, "UniFormerV2-L K710 8x224"): (4, 64, 1.5e-6, 5, 1, 0, 0),
    ("k", "large", 32, "UniFormerV2-L K710 8x224"): (4, 32, 1.5e-6, 5, 1, 0, 0),
    ("k", "large336", 32, "UniFormerV2-L K710 8x336"): (4, 32, 1.5e-6, 5, 1, 0, 0),
    ("k", "large336", 64, "UniFormerV2-L K710 8x336"): (8, 16, 1.5e-6, 5, 1, 0, 0),
    ("k", "frozen336", 8, "UniFormerV2-L K710 8x336 frozen"): (2, 256, 5e-5, 5, 1, 0, 0),
    ("k", "frozen336", 32, "UniFormerV2-L K710 8x336 frozen"): (2, 128, 5e-5, 5, 1, 0, 0),
    ("mit", "base", 8, "UniFormerV2-B K400 from K710 8x224"): (2, 256, 2e-5, 24, 5, 0, 0),
    ("mit", "large", 8, "UniFormerV2-L K400 from K710 8x224"): (4, 128, 1e-5, 18, 5, 0, 0),
    ("mit", "large336", 8, "UniFormerV2-L K400 from K710 32x336"): (4, 128, 1e-5, 18, 5, 0, 0),
    ("anet", "large", 16, "UniFormerV2-L K400 from K710 16x224"): (2, 32, 5e-6, 20, 5, 0.2, 0.4),
    ("anet", "large", 32, "UniFormerV2-L K400 from K710 32x224"): (4, 16, 5e-6, 20, 5, 0.2, 0.4),
    ("hacs", "large", 16, "UniFormerV2-L K400 from K710 16x224"): (2, 32, 5e-6, 20, 5, 0.2, 0.4),
    ("hacs", "large", 32, "UniFormerV2-L K400 from K710 32x224"): (4, 16, 5e-6, 20, 5, 0.2, 0.4),
    ("ssv1", "base", 16, "CLIP"): (1, 128, 4e-5, 22, 5, 0.2, 0.4),
    ("ssv1", "base", 32, "CLIP"): (2, 64, 4e-5, 22, 5, 0.2, 0.4),
    ("ssv1", "large", 16, "CLIP"): (2, 64, 2e-5, 22, 5, 0.2, 0.4),
    ("ssv1", "large", 32, "CLIP"): (4, 32, 2e-5, 22, 5, 0.2, 0.4),
}

# Run -> epochs, batch, the script's rate x its factor, frames, sampler
RETRIEVAL = {
    "msrvtt": (5, 128, 1e-3 * 4e-3, 12, "retrieval_fps"),
    "msvd": (5, 64, 1e-3 * 2.5e-3, 8, "retrieval_seconds"),
    "lsmdc": (5, 64, 1e-3 * 2e-3, 8, "retrieval_fps"),
    "anet": (30, 64, 1e-3 * 2e-3, 64, "retrieval_seconds"),
    "didemo": (5, 16, 1e-3 * 2e-3, 32, "retrieval_fps"),
    "vatex": (5, 128, 1e-3 * 5e-3, 8, "retrieval_fps"),
}

# Run -> captions and videos for training, and for validation
RETRIEVAL_FILES = {
    "msrvtt": ("MSRVTT_data.json", "MSRVTT_train.9k.csv", "MSRVTT_JSFUSION_test.csv", None),
    "msvd": ("raw-captions.pkl", "train_list.txt", "raw-captions.pkl", "val_list.txt"),
    "lsmdc": ("LSMDC16_annos_training.csv", None, "LSMDC16_challenge_1000_publictect.csv", None),
    "anet": ("train.json", "train_ids.json", "val_1.json", "val_ids.json"),
    "didemo": ("train_data.json", "train_list.txt", "val_data.json", "val_list.txt"),
    "vatex": (
        "vatex_training_v1.0_ceph.json",
        "train_list.txt",
        "vatex_validation_v1.0_ceph.json",
        "test_list.txt",
    ),
}

# Run -> mAP of the read-me; the paper's of HACS is of TCANet
TEMPORAL_LOCALIZATION = {"thumos": 71.58, "anet": 39.0, "hacs": 41.32, "fineaction": 17.57}

# Run -> batch, learning rate, epochs, epochs of warm-up, share of patches left out
VICLIP = {
    "stage1_base": (64 * 512, 2e-4, 10, 0.5, 0.9),
    "stage1_large": (64 * 512, 4e-4, 10, 0.5, 0.9),
    "stage2_base": (64 * 32, 4e-6, 0.5, 0.1, 0),
    "stage2_large": (64 * 32, 4e-6, 0.5, 0.1, 0),
}

# Size -> AUC with HMDB51 for unknown
OPEN_SET = {"base": 83.21, "large": 83.82, "huge": 85.48}

CUSTOM = {
    *(f"videomae/{name}" for name in ("pretrain_small", "finetune_base")),
    *("uniformerv2/finetune_base", "viclip/finetune_base", "question_answering/custom"),
    *("temporal_localization/custom", "temporal_localization/thumos_end_to_end", "action_detection/custom"),
    "temporal_grounding/custom",
}

# Recipes whose pixels are made in less time than the released ones -> the option of the view that says so
FAST_PIXELS = {
    **dict.fromkeys(("videomae/finetune_base", "uniformerv2/finetune_base"), {"augmentation_backend": "tensor"}),
    **dict.fromkeys(("videomae/pretrain_small", "question_answering/custom"), {"method": "torchvision_bilinear"}),
    **dict.fromkeys(("viclip/finetune_base", "viclip/finetune_base_small_gpu"), {"method": "torchvision_bicubic"}),
}

# Run -> clips a step, GPUs, learning rate, layer decay, epochs, mAP
ACTION_DETECTION = {
    "ava_base": (16 * 32, 32, 2.5e-4, 0.75, 30, None),
    "ava_large": (4 * 32, 32, 2.5e-4, 0.75, 30, None),
    "ava_huge": (4 * 32, 32, 2.5e-4, 0.75, 30, None),
    "ava_giant": (4 * 32, 32, 5e-4, 0.9, 20, None),
    "ava_kinetics_huge": (8 * 64, 64, 2.5e-4, 0.75, 30, 41.01),
}


# Runs on Ego4D, of which each has a test of its own
EGO4D = (
    "verbs",
    "nouns",
    "verbs_and_nouns",
    "moment_queries",
    "short_term_anticipation",
    "hand_prediction",
    "language_queries",
    "state_change_detection",
)


def of_table(name: str) -> str | None:
    """Return the published table of a recipe's numbers; None for our own recipes."""
    return None if name in CUSTOM or name.endswith("_small_gpu") else name.partition("/")[0]


def test_every_run_is_in_a_table():
    told = {
        *(f"videomae/finetune_{run}" for run in VIDEOMAE),
        *(f"videomae/pretrain_{run}" for run in VIDEOMAE_PRETRAINING),
        *(f"retrieval/{run}" for run in RETRIEVAL),
        *(f"viclip/{run}" for run in VICLIP),
        *(f"internvideo_mm/pretrain_{size}" for size in ("base", "large")),
        *(f"question_answering/{run}" for run in QUESTION_ANSWERING),
        *(f"temporal_localization/{run}" for run in TEMPORAL_LOCALIZATION),
        *(f"open_set/ucf101_{size}" for size in OPEN_SET),
        *(f"action_detection/{run}" for run in ACTION_DETECTION),
        *(f"ego4d/{run}" for run in EGO4D),
        "temporal_localization/tcanet_hacs",
    }
    assert told == {name for name in NAMES if of_table(name) not in (None, "uniformerv2")}
    # Each line of Kinetics is three runs, each of Something-Something V1 one of V2 too.
    rows = sum({"k": 3, "ssv1": 2}.get(data, 1) for data, *_ in UNIFORMERV2)
    assert rows == sum(of_table(name) == "uniformerv2" for name in NAMES) == 49


@pytest.mark.parametrize("size", OPEN_SET)
def test_open_set_is_as_released(size, tmp_path):
    found, model = recipe(f"open_set/ucf101_{size}"), build(f"open_set/ucf101_{size}")
    assert found.expected.value == OPEN_SET[size]
    assert found.training == {
        "num_train_epochs": 50,
        "optim": "sgd",
        "optim_args": "momentum=0.9,nesterov=true",
        "learning_rate": 1e-3,
        "schedule": "two_drops",
        "weight_decay": 1e-4,
        "decay_rule": "all",
        "max_grad_norm": 40,
        "per_device_train_batch_size": 1,
    }
    assert (found.batch_size, found.devices, found.data.mixup) == (8, 8, None)
    config = model.config
    assert (config.num_labels, config.num_frames, config.position_num_frames) == (101, 32, 32)
    assert (config.classifier_dropout, config.drop_path_rate) == (0.5, 0)
    assert config.initializer_range * config.head_init_scale == pytest.approx(0.01)
    assert config.evidential == {"loss": "log", "evidence": "exp", "kl": False, "avu": False, "annealing": "exp"}
    assert {name: found.model.processor[name] for name in ("sampler", "num_crops")} == {
        "sampler": "openset",
        "num_crops": 3,
    }
    # Of 100 frames, 32 with one between each two, from a start below 36.
    draw = np.random.RandomState(0)
    clips = [SAMPLERS[found.data.clip.sampler](100, 32, generator=draw, frame_interval=2)[0] for _ in range(200)]
    assert {int(clip[0]) for clip in clips} <= set(range(36)) and all(clip[31] - clip[0] == 62 for clip in clips)
    arguments = VideoTrainingArguments(tmp_path, use_cpu=True, report_to="none", **found.training)
    trainer = VideoTrainer(torch.nn.Linear(2, 2), arguments)
    trainer.optimizer = None
    kind, options = trainer.get_optimizer_cls_and_kwargs(arguments)
    assert kind is torch.optim.SGD and (options["momentum"], options["nesterov"]) == (0.9, True)


@pytest.mark.parametrize("run", ACTION_DETECTION)
def test_action_detection_is_as_released(run):
    found = recipe(f"action_detection/{run}")
    training, boxes, processor = found.training, found.data.boxes, found.model.processor
    assert (
        found.batch_size,
        found.devices,
        training["learning_rate"],
        training["layer_decay"],
        training["num_train_epochs"],
        found.expected.value,
    ) == ACTION_DETECTION[run]
    assert (training["weight_decay"], training["warmup_epochs"], training["min_learning_rate"]) == (0.05, 2, 1e-6)
    assert training["base_batch_size"] == 256 and training["schedule"] == "linear_then_cosine"
    assert (boxes.crop_size, boxes.color, boxes.flip, boxes.jitter) == (224, [10, 26, 26], 0.5, [0.2, 0.1, 0.1, 0.05])
    config = build(f"action_detection/{run}").config
    assert (config.drop_path_rate, config.roi_scale, config.num_labels) == (0.2, 1 / 16, 80)
    assert config.attend_to_padding
    for rule, divisor in (("image_mean", [122.7717, 115.9465, 102.9801]), ("image_std", [57.375] * 3)):
        expected = pytest.approx([value / 255 for value in divisor], abs=1e-7)
        assert list(getattr(config, rule)) == expected and processor[rule] == expected
    assert processor["size"] == {"shortest_edge": 256} and processor["do_center_crop"] is False
    assert (config.num_frames, config.image_size, config.use_mean_pooling) == (16, 224, False)


@pytest.mark.parametrize(("run", "labels", "value"), [("verbs", 118, 52.51), ("nouns", 582, 33.41)])
def test_ego_pretraining_is_as_released(run, labels, value):
    found, config = recipe(f"ego4d/{run}"), build(f"ego4d/{run}").config
    training = found.training
    assert (found.expected.value, config.num_labels, found.model.start) == (value, labels, "VideoMAE-L K700")
    assert (config.num_frames, config.image_size, config.tubelet_size, config.drop_path_rate) == (16, 224, 2, 0.1)
    assert (training["learning_rate"], training["weight_decay"], training["layer_decay"]) == (5e-4, 0.05, 0.75)
    assert (training["num_train_epochs"], training["warmup_epochs"]) == (10, 1)
    assert (training["adam_beta1"], training["adam_beta2"], training["per_device_train_batch_size"]) == (
        0.9,
        0.999,
        16,
    )
    both = recipe("ego4d/verbs_and_nouns")
    assert both.training == training and both.data.heads == {"verb": "verbs.txt", "noun": "nouns.txt"}


def test_state_change_detection_trains_as_dino_was():
    found = recipe("ego4d/state_change_detection")
    training, frames = found.training, found.data.frames
    assert (training["learning_rate"] * training["head_scale"], training["learning_rate"]) == pytest.approx(
        (1e-4, 1e-5)
    )
    assert (training["weight_decay"], training["decay_rule"], training["max_grad_norm"]) == (1e-4, "all", 0.1)
    assert (training["num_train_epochs"], training["schedule"], training["warmup_steps"]) == (12, "one_drop", 500)
    assert training["warmup_learning_rate"] == pytest.approx(1e-3 * training["learning_rate"])
    assert (found.batch_size, found.devices, training["per_device_train_batch_size"]) == (16, 8, 2)
    assert (frames.shortest_edge, frames.longest_edge, frames.flip) == ([800, 1600], 2000, 0.5)
    assert frames.moments == ["pre_frame", "pnr_frame", "post_frame"] and frames.object_type == "object_of_change"
    with pytest.raises(RecipeError, match="object_detection trains models of transformers"):
        build_model(found.model)


def test_short_term_anticipation_is_as_released():
    found, config = recipe("ego4d/short_term_anticipation"), build("ego4d/short_term_anticipation").config
    training, interactions, processor = found.training, found.data.interactions, found.model.processor
    assert (found.batch_size, found.devices, training["per_device_train_batch_size"]) == (4 * 8, 8, 4)
    assert (training["learning_rate"], training["base_batch_size"]) == (2.5e-4, 256)  # 3.125e-5 for a batch of 32
    assert (training["weight_decay"], training["num_train_epochs"], training["warmup_epochs"]) == (0.05, 30, 0)
    assert (training["layer_decay"], training["min_learning_rate"]) == (0.75, 1e-6)
    assert (interactions.short_sides, interactions.crop_size, interactions.flip) == ([256, 320], 224, 0.5)
    assert (interactions.label_overlap, interactions.min_score, interactions.with_truth) == (0.5, 0, True)
    assert (config.hidden_size, config.num_frames, config.image_size) == (1024, 16, 224)
    assert (config.drop_path_rate, config.verb_loss_weight, config.time_loss_weight) == (0.2, 1, 15)
    assert (config.roi_size, config.roi_scale, config.roi_aligned, config.roi_sampling_ratio) == (7, None, True, 0)
    assert processor["sampler_kwargs"] == {"sampling_rate": 2} and processor["size"] == {"shortest_edge": 256}
    for name, value in (("image_mean", 0.45), ("image_std", 0.225)):
        assert list(getattr(config, name)) == processor[name] == [value] * 3


def test_moment_queries_have_the_numbers_of_actionformers_own_configuration():
    found, config = recipe("ego4d/moment_queries"), build("ego4d/moment_queries").config
    features, training = found.data.features, found.training
    assert (features.stride, features.num_frames, features.fps, features.min_kept) == (16, 32, 30, 0.3)
    assert (features.crop_ratio, features.thresholds) == ([0.9, 1.0], [0.1, 0.2, 0.3, 0.4, 0.5])
    assert (training["learning_rate"], training["weight_decay"], found.batch_size) == (1e-4, 0.05, 2)
    assert training["num_train_epochs"] - training["warmup_epochs"] == 10 and training["max_grad_norm"] == 1
    assert (len(features.folder), config.feature_size) == (2, 2 * 1024)
    assert (config.hidden_size, config.head_hidden_size, config.num_attention_heads) == (1024, 1024, 16)
    assert (config.num_embedding_layers, config.num_stem_layers, config.num_levels) == (2, 2, 7 + 1)
    assert config.attention_windows == [9] * 8 and config.max_sequence_length == 1024
    assert config.regression_ranges == [[0, 4], *([2**low, 2 ** (low + 2)] for low in range(1, 7)), [128, 10000]]
    assert (config.hidden_dropout, config.drop_path_rate, config.attention_dropout) == (0.1, 0.1, 0)
    assert (config.class_prior, config.center_sampling_radius, config.init_loss_normalizer) == (0.01, 1.5, 100)
    assert config.use_absolute_positions and config.neck_type == "identity"
    assert config.selection == {"min_score": 0.001, "max_candidates": 5000, "min_length": 0.05}
    suppression = {
        "sigma": 2.0,
        "max_segments": 2000,
        "min_score": 0.001,
        "voting_threshold": 0.95,
        "class_wise": True,
    }
    assert config.suppression.items() >= suppression.items()


def test_language_queries_have_the_numbers_of_ego4ds_baseline():
    found, config = recipe("ego4d/language_queries"), build("ego4d/language_queries").config
    # The options of its VSLNet: --max_pos_len 512 --epochs 200 of its read-me, the rest as by default.
    assert (config.hidden_size, config.num_attention_heads, config.max_positions) == (128, 8, 512)
    assert (config.hidden_dropout, config.highlight_loss_weight, config.highlight_extension) == (0.2, 5.0, 0.1)
    training = found.training
    assert (found.batch_size, training["learning_rate"], training["num_train_epochs"]) == (32, 1e-4, 200)
    assert training["max_grad_norm"] == 1.0 and "schedule" not in training and "warmup_steps" not in training
    # InternVideo-Ego4D's features, of a ViT-L; windows of the baseline's: 16 frames, 16 apart, at 30 a second.
    data = found.data.queries
    assert config.video_size == 1024 and (data.stride, data.num_frames, data.fps) == (16, 16, 30)


@pytest.mark.parametrize("run", TEMPORAL_LOCALIZATION)
def test_temporal_localization_is_as_released(run):
    original = json.loads(Path(f"tests/manifests/actionformer_{run}_resolved_config.json").read_text())
    found, config = recipe(f"temporal_localization/{run}"), build(f"temporal_localization/{run}").config
    training, features, opt, test = found.training, found.data.features, original["opt"], original["test_cfg"]
    assert found.expected.value == TEMPORAL_LOCALIZATION[run]
    assert (found.batch_size, training["learning_rate"], training["weight_decay"], training["seed"]) == (
        original["loader"]["batch_size"],
        opt["learning_rate"],
        opt["weight_decay"],
        original["init_rand_seed"],
    )
    epochs, warmup = training["num_train_epochs"], training["warmup_epochs"]
    assert (epochs - warmup, warmup, training["max_grad_norm"]) == (
        opt["epochs"],
        opt["warmup_epochs"],
        original["train_cfg"]["clip_grad_l2norm"],
    )
    settings = original["dataset"]
    assert ([features.train_subset], [features.subset]) == (original["train_split"], original["val_split"])
    assert (features.stride or -1, features.num_frames, features.fps) == (
        settings["feat_stride"],
        settings["num_frames"],
        settings["default_fps"],
    )
    assert (features.fixed_length is not None) == settings["force_upsampling"]
    assert features.fixed_length in (None, settings["max_seq_len"])
    assert features.class_agnostic == (settings["num_classes"] == 1) and features.min_kept == settings["trunc_thresh"]
    expected = settings_of(original["model"] | {"train_cfg": original["train_cfg"], "test_cfg": test})
    # The released features of THUMOS-14 have 1280 channels; classes are those of the annotations.
    expected |= {"feature_size": 1280 if run == "thumos" else expected["feature_size"]}
    known = {name: value for name, value in expected.items() if name != "num_labels"}
    windows = known.pop("attention_windows")
    assert config.attention_windows == (windows if isinstance(windows, list) else [windows] * 6)
    assert {name: getattr(config, name) for name in known} == known


def test_tcanet_is_as_its_public_training():
    found, config = recipe("temporal_localization/tcanet_hacs"), build("temporal_localization/tcanet_hacs").config
    training, features = found.training, found.data.features
    assert (found.expected.value, found.batch_size, features.num_proposals) == (41.55, 16, 64)
    assert (training["learning_rate"], training["weight_decay"]) == (4e-4, 1e-5)
    assert (training["num_train_epochs"], training["schedule"], training["warmup_steps"]) == (
        9,
        "cosine_then_step",
        1000,
    )
    assert training["min_learning_rate"] == pytest.approx(0.1 * training["learning_rate"])
    assert config.step_seconds == pytest.approx(features.stride / features.fps) and config.feature_size == 1280


@pytest.mark.parametrize("run", VIDEOMAE)
def test_finetuning_of_videomae_is_as_released(run):
    found = recipe(f"videomae/finetune_{run}")
    training, config = found.training, found.model.config
    assert VIDEOMAE[run] == (
        found.batch_size,
        training["learning_rate"],
        training["num_train_epochs"],
        training["warmup_epochs"],
        config["drop_path_rate"],
        config.get("classifier_dropout", 0),
        training["layer_decay"],
        found.data.clip.num_views,
    )
    size, data = run.split("_")[:2]
    assert (found.model.size, found.data.labels) == (size, data)
    source = run.rpartition("_from_")[2].upper() if "_from_" in run else ""
    assert found.model.start == f"VideoMAE-{size[0].upper()} {source}".strip()
    adam = (training["adam_beta1"], training["adam_beta2"], training["weight_decay"], training["max_grad_norm"])
    assert adam == (0.9, 0.999, 0.05, 0)
    assert (training["base_batch_size"], training["min_learning_rate"], training["fp16"]) == (256, 1e-6, True)
    assert found.data.mixup == dict(
        mixup_alpha=0.8, cutmix_alpha=1.0, probability=1.0, switch_probability=0.5, smoothing=0.1
    )
    kind = "ssv2" if data == "ssv2" else "sparse" if run.endswith("sparse") else "dense"
    assert found.data.clip.sampler == f"videomae_{kind}_train"
    assert found.model.processor.get("sampler", "dense") == ("dense" if kind == "dense" else "videomae_sparse")
    assert found.data.clip.view_options.get("flip_probability", 0.5) == (0 if kind == "ssv2" else 0.5)


@pytest.mark.parametrize("run", VIDEOMAE_PRETRAINING)
def test_pretraining_of_videomae_is_as_released(run):
    found, config = recipe(f"videomae/pretrain_{run}"), build(f"videomae/pretrain_{run}").config
    training = found.training
    assert VIDEOMAE_PRETRAINING[run] == (
        found.batch_size,
        training["learning_rate"],
        training["min_learning_rate"],
        training["num_train_epochs"],
        training["warmup_epochs"],
        found.data.clip.num_views,
        config.decoder_num_hidden_layers,
        config.decoder_hidden_size,
    )
    assert (training["adam_beta1"], training["adam_beta2"], training["weight_decay"]) == (0.9, 0.95, 0.05)
    assert (training["base_batch_size"], training["fp16"], config.drop_path_rate) == (256, True, 0)
    assert (found.data.clip.mask["mask"], found.data.clip.mask["mask_ratio"]) == ("tube", 0.9)
    assert found.data.clip.sampler == "videomae_pretrain" and found.data.clip.view == "pretraining"


def uniformerv2_row(name: str) -> tuple[str, str, int, str]:
    """Parse a run's name and its start into data set, size and frames."""
    data, size, frames = name.partition("/")[2].removesuffix("_from_clip").split("_")
    return data, size, int(frames.removesuffix("frames")), recipe(name).model.start


@pytest.mark.parametrize("name", [name for name in NAMES if of_table(name) == "uniformerv2"])
def test_uniformerv2_is_as_released(name):
    found, (data, size, frames, start) = recipe(name), uniformerv2_row(name)
    data = {"k400": "k", "k600": "k", "k700": "k", "ssv2": "ssv1"}.get(data, data)
    nodes, batch, *numbers = UNIFORMERV2[data, size, frames, start]
    training, config = found.training, build(name).config
    assert (found.batch_size, found.devices) == (nodes * batch, nodes * 8)
    assert training["per_device_train_batch_size"] == batch // 8
    assert numbers == [
        training["learning_rate"],
        training["num_train_epochs"],
        training["warmup_epochs"],
        config.drop_path_rate,
        config.global_drop_path_rate,
    ]
    ends = (training["warmup_learning_rate"], training["min_learning_rate"])
    assert (training["schedule"], *ends) == ("warmup_cosine", 1e-6, 1e-6)
    adam = (training["adam_beta1"], training["adam_beta2"], training["weight_decay"], training["max_grad_norm"])
    assert adam == (0.9, 0.999, 0.05, 20)
    assert (training["seed"], training["fp16"], training["decay_rule"]) == (6666, True, "uniformerv2")
    assert not {"layer_decay", "base_batch_size"} & training.keys() and found.data.mixup is None
    assert (config.num_frames, config.classifier_dropout, config.global_dropout) == (frames, 0.5, 0.5)
    motion, frozen = data == "ssv1", size == "frozen336"
    assert (config.num_local_blocks, config.temporal_downsampling) == ((2, True) if motion else (0, False))
    assert len(config.global_layers) == ({"base": 8, "large": 16}[size] if motion else 4)
    assert found.model.freeze == (["embeddings", "layers"] if frozen else [])
    assert config.use_fusion_gate is not frozen
    clip = found.data.clip
    assert (clip.sampler, clip.num_views) == ("uniformerv2_train", 2 if motion else 1)
    assert clip.view_options == {"erasing_probability": 0} | ({"flip_probability": 0} if motion else {})
    assert found.model.processor == ({"channel_order": "bgr"} if motion else {})
    labels = uniformerv2_row(name)[0]
    assert found.data.labels == (200 if labels == "hacs" else labels)


def test_every_released_uniformerv2_has_its_recipe_and_score():
    sets = {"mit": "MiT", "anet": "ActivityNet", "hacs": "HACS", "ssv1": "SSv1", "ssv2": "SSv2"}
    rows = {row["name"]: row for row in released_rows() if row["family"] == "uniformerv2"}
    for name in [name for name in NAMES if of_table(name) == "uniformerv2"]:
        data, size, frames, start = uniformerv2_row(name)
        source = " from K710" if start.split()[-1] != "CLIP" and data[0] == "k" else ""
        kind = ("B" if size == "base" else "L", sets.get(data, data.upper()), source, frames)
        pixels = f"{336 if '336' in size else 224}{' frozen' if size == 'frozen336' else ''}"
        test = rows.pop("UniFormerV2-{} {}{} {}x".format(*kind) + pixels)["evaluation"]
        crops = f"{test['num_crops']} crop" + "s" * (test["num_crops"] > 1)
        clips = f"{test['num_clips']} clip" + "s" * (test["num_clips"] > 1)
        expected = recipe(name).expected
        assert (expected.metric, expected.value, expected.protocol) == ("top-1", test["top1"], f"{clips} x {crops}")
    assert not rows


def test_a_frozen_uniformerv2_trains_what_clip_has_not():
    name = "uniformerv2/k710_frozen336_8frames"
    model = build(name)
    model.freeze_backbone(*recipe(name).model.freeze)
    trained = {name.removeprefix("vision_model.").partition(".")[0] for name, _ in trained_parameters(model)}
    assert trained == {"global_blocks", "video_embedding", "layernorm", "classifier"}


def trained_parameters(model):
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize("run", RETRIEVAL)
def test_retrieval_is_as_released(run):
    found, config = recipe(f"retrieval/{run}"), build(f"retrieval/{run}").config
    epochs, batch, rate, frames, sampler = RETRIEVAL[run]
    training = found.training
    assert (training["num_train_epochs"], found.batch_size) == (epochs, batch)
    assert math.isclose(training["learning_rate"], rate, rel_tol=1e-12)
    assert config.vision_config.num_frames == frames
    assert found.data.clip.sampler == found.model.processor["sampler"] == sampler
    assert found.data.clip.sampler_options == found.model.processor.get("sampler_kwargs", {})
    assert found.data.clip.sampler_options == ({"start": 0, "end": 31} if run == "didemo" else {})
    assert (training["use_bert_adam"], training["decay_rule"]) == (True, "retrieval")
    assert (training["schedule"], training["warmup_steps"]) == ("warmup_cosine_of_all", 0.1)
    assert (training["adam_beta1"], training["adam_beta2"], training["weight_decay"]) == (0.9, 0.98, 0.2)
    assert (training["max_grad_norm"], training["seed"], training["dataloader_drop_last"]) == (1.0, 42, True)
    assert not {"fp16", "bf16"} & training.keys()
    assert found.model.start == "InternVideo-MM-L-14" and found.data.clip.view == "processor"
    data = found.data
    assert (data.train, data.train_videos, data.validation, data.validation_videos) == RETRIEVAL_FILES[run]


@pytest.mark.parametrize("run", RETRIEVAL)
def test_retrieval_trains_the_released_tensors(run, golden):
    case = golden / "retr_optim"
    sizes, groups = (json.loads((case / name).read_text()) for name in ("config.json", "groups.json"))
    model = InternVideoMMModel(
        InternVideoMMConfig(
            projection_dim=sizes["embed_dim"],
            vision_config={
                "hidden_size": sizes["vision_width"],
                "num_hidden_layers": sizes["vision_layers"],
                "num_attention_heads": sizes["vision_heads"],
                "global_layers": sizes["return_list"],
                "image_size": sizes["image_size"],
                "patch_size": sizes["patch_size"],
            },
            text_config={
                "hidden_size": sizes["text_width"],
                "num_hidden_layers": sizes["text_layers"],
                "num_attention_heads": sizes["text_heads"],
            },
        )
    )
    model.freeze_backbone(*recipe(f"retrieval/{run}").model.freeze)
    known = {name for group in groups["groups"] for name in group["names"]}
    trained = {released_name(name, MM) for name, _ in trained_parameters(model)}
    assert trained == known - set(groups["frozen_with_freeze_layer_num_0"])


@pytest.mark.parametrize("run", VICLIP)
def test_viclip_is_as_released(run):
    found, model = recipe(f"viclip/{run}"), build(f"viclip/{run}")
    training = found.training
    assert VICLIP[run] == (
        found.batch_size,
        training["learning_rate"],
        training["num_train_epochs"],
        training["warmup_epochs"],
        model.config.vision_config.mask_ratio,
    )
    assert (model.config.vision_config.drop_path_rate, model.config.vision_config.num_frames) == (0.1, 8)
    assert (training["schedule"], training["decay_rule"]) == ("warmup_cosine_floored", "viclip")
    assert (training["adam_beta1"], training["adam_beta2"], training["weight_decay"]) == (0.9, 0.98, 0.2)
    assert (training["bf16"], training["max_grad_norm"]) == (True, 0)
    assert (found.data.caption_rule, found.data.min_words) == ("viclip", 2)
    assert (found.data.clip.sampler, found.data.clip.view) == ("viclip_train", "contrastive")
    stage, size = run.split("_")
    assert found.model.start == ("CLIP" if stage == "stage1" else f"viclip/stage1_{size}")
    model.freeze_backbone(*found.model.freeze)
    trained = {name for name, _ in trained_parameters(model)}
    assert trained == {name for name, _ in model.named_parameters() if not name.startswith("text_")}


@pytest.mark.parametrize("size", ["base", "large"])
def test_internvideo_mm_is_as_published(size):
    found = recipe(f"internvideo_mm/pretrain_{size}")
    training = found.training
    assert (found.batch_size, found.devices, found.model.start) == (14336, 128, "CLIP")
    assert (training["learning_rate"], training["weight_decay"]) == (8e-5, 0.2)
    assert (training["max_steps"], training["warmup_steps"]) == (400_000, 4_000)
    assert (training["adam_beta1"], training["adam_beta2"], training["adam_epsilon"]) == (0.9, 0.98, 1e-6)
    assert (training["schedule"], training["fp16"]) == ("linear_then_cosine", True)
    assert found.model.task == "captioning"
    # 86,016 images: a multiple of the videos
    assert found.data.images.per_video * found.batch_size == 86_016
    assert found.data.images.clip.view_options == {"area": [0.9, 1.0], "flip_probability": 0}
    decoder = build(f"internvideo_mm/pretrain_{size}").config.decoder_config
    width, video = {"base": (512, 768), "large": (768, 1024)}[size]
    heads = width // 64
    assert (decoder.hidden_size, decoder.encoder_hidden_size, decoder.num_attention_heads) == (width, video, heads)
    assert (decoder.intermediate_size, decoder.num_hidden_layers, decoder.num_visual_queries) == (4 * width, 4, 256)


# Recipe -> published accuracy, questions a device, files.
QUESTION_ANSWERING = {
    "msrvtt": (47.14, 16, "msrvtt_qa_train.jsonl msrvtt_qa_test.jsonl msrvtt_train_ans2label.json"),
    "msrvtt_base": (44.58, 16, "msrvtt_qa_train.jsonl msrvtt_qa_test.jsonl msrvtt_train_ans2label.json"),
    "msvd": (55.54, 16, "msvd_train_qa_encode.json msvd_test_qa_encode.json msvd_answer_set.txt"),
    "msvd_base": (51.77, 16, "msvd_train_qa_encode.json msvd_test_qa_encode.json msvd_answer_set.txt"),
    "tgif": (72.22, 32, "frameqa_train.jsonl frameqa_test.jsonl frameqa_trainval_ans2label.json"),
    "tgif_base": (67.83, 32, "frameqa_train.jsonl frameqa_test.jsonl frameqa_trainval_ans2label.json"),
}


@pytest.mark.parametrize("run", QUESTION_ANSWERING)
def test_question_answering_is_as_released(run):
    found, config = recipe(f"question_answering/{run}"), build(f"question_answering/{run}").config
    accuracy, per_device, files = QUESTION_ANSWERING[run]
    training, data, processor = found.training, found.data, found.model.processor
    assert found.expected.value == accuracy and found.expected.metric == "top-1 of known answers"
    assert (found.batch_size, training["per_device_train_batch_size"]) == (512, per_device)
    assert (training["num_train_epochs"], training["learning_rate"], training["head_scale"]) == (20, 1e-5, 10)
    assert (training["lr_scheduler_type"], training["warmup_steps"], training["weight_decay"]) == ("linear", 0.1, 0.01)
    assert (training["adam_beta1"], training["adam_beta2"], training["adam_epsilon"]) == (0.9, 0.98, 1e-6)
    assert (training["max_grad_norm"], training["fp16"]) == (0, True)
    assert (config.classifier_dropout, config.vision_config.global_dropout) == (0.5, 0.5)
    assert (config.projection_dim, config.vision_config.num_frames) == (None, 8)
    assert config.vision_config.hidden_size == (768 if run.endswith("_base") else 1024)
    assert found.model.start == ("InternVideo-MM-B-16" if run.endswith("_base") else "InternVideo-MM-L-14")
    assert f"{data.train} {data.validation} {data.labels}" == files
    squashed = not run.startswith("tgif")
    assert processor["size"] == ({"height": 256, "width": 256} if squashed else {"shortest_edge": 256})
    assert processor["crop_size"] == {"height": 224, "width": 224}
    assert data.clip.view == "cropped" and data.clip.view_options.get("squash", True) == squashed


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("internvideo_mm/pretrain_base", 178_066_433),
        ("internvideo_mm/pretrain_large", 478_127_105),
        ("retrieval/anet", 478_127_105),
        ("viclip/stage1_base", 149_603_841),
        ("viclip/stage2_large", 427_590_145),
    ],
)
def test_dual_encoders_have_the_released_sizes(name, parameters):
    towers = {key: value for key, value in build(name).named_parameters() if not key.startswith("caption_")}
    assert sum(parameter.numel() for parameter in towers.values()) == parameters


# ---- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("titel", "title"),
        ("model.famly", "model.family"),
        ("data.label", "data.labels"),
        ("data.clip.samplr", "data.clip.sampler"),
        ("expected.metrics", "expected.metric"),
        ("training.learning_rat", "training.learning_rate"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest(path, nearest):
    with pytest.raises(RecipeError, match=rf"unknown setting {path}. Did you mean {nearest}\?"):
        load_recipe(SOME, [f"{path}=1"])


def test_unknown_setting_of_the_model_is_refused_with_the_nearest():
    changed = load_recipe(SOME, ["model.config.drop_path=0.2"])
    with pytest.raises(ValueError, match="Did you mean model.config.drop_path_rate"):
        build_model(changed.model, 2)


def test_what_the_run_decides_is_no_setting():
    with pytest.raises(RecipeError, match="unknown setting training.output_dir"):
        load_recipe(SOME, ["training.output_dir=run"])


def test_unknown_recipe_is_refused_with_the_nearest():
    with pytest.raises(RecipeError, match=f"Did you mean .*{SOME}"):
        load_recipe("videomae/finetune_base_k40")


@pytest.mark.parametrize("missing", ["title", "batch_size", "training"])
def test_missing_key_is_refused(missing):
    content = TRAININGS.read(SOME)
    del content[missing]
    with pytest.raises(RecipeError, match=f"{missing} must be given"):
        parse_recipe(content)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("batch_size=many", "expected int"),
        ("training.learning_rate=fast", "expected float"),
        ("training.max_grad_norm=true", "expected float"),
        ("training.fp16=1", "expected bool"),
        ("model.freeze=layers", "expected list"),
        ("data.labels=[a, b]", "expected str or int or null"),
        ("model.task=segmentation", "expected one of pretraining, classification, contrastive"),
    ],
)
def test_value_of_another_kind_is_refused(override, expected):
    with pytest.raises(RecipeError, match=expected):
        load_recipe(SOME, [override])


def test_overrides_change_values():
    overrides = ["training.learning_rate=1e-4", "data.mixup=null", "batch_size=8", "model.lora.r=4"]
    changed = load_recipe(SOME, overrides)
    assert changed.training["learning_rate"] == 1e-4
    assert changed.data.mixup is None
    assert changed.batch_size == 8
    assert changed.model.lora == {"r": 4}
    assert changed.training["layer_decay"] == recipe(SOME).training["layer_decay"]


@pytest.mark.parametrize("override", ["batch_size", "=8", "title.words=3"])
def test_override_that_changes_nothing_is_refused(override):
    with pytest.raises(RecipeError, match=override):
        load_recipe(SOME, [override])


def test_own_file_extends_a_recipe_and_a_file_beside_it(tmp_path):
    (tmp_path / "shared.yaml").write_text(f"extends: {SOME}\ntitle: Mine\ndata: {{labels: 3, train: mine.csv}}\n")
    (tmp_path / "run.yaml").write_text("extends: ./shared.yaml\ntraining: {learning_rate: 1e-4}\nsource: [me]\n")
    found = load_recipe(tmp_path / "run.yaml")
    assert (found.title, found.source, found.data.labels, found.data.train) == ("Mine", ["me"], 3, "mine.csv")
    assert found.training == recipe(SOME).training | {"learning_rate": 1e-4}
    assert found.data.clip == recipe(SOME).data.clip


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("title: a\ntitle: b", "title is set twice"),
        ("training: {seed: 1, seed: 1}", "seed is set twice"),
        ("title: [a", "not valid YAML"),
        ("- a", "expected settings by name"),
        ("extends: videomae/finetune_bas", "No recipe"),
    ],
)
def test_file_that_is_no_recipe_is_refused(text, cause, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=cause):
        load_recipe(file)


@pytest.mark.parametrize(
    ("text", "number"), [("1e-3", 1e-3), ("-2E+4", -2e4), ("1.5e-6", 1.5e-6), (".5e1", 5.0), ("5", 5), ("0.1", 0.1)]
)
def test_numbers_are_read_as_everyone_writes_them(text, number, tmp_path):
    (tmp_path / "run.yaml").write_text(f"training: {{learning_rate: {text}}}")
    assert TRAININGS.read(tmp_path / "run.yaml")["training"]["learning_rate"] == number


def test_text_that_looks_like_no_number_stays_text(tmp_path):
    (tmp_path / "run.yaml").write_text("values: [1e, e-3, 1e-3x, 5 clips]")
    assert TRAININGS.read(tmp_path / "run.yaml")["values"] == ["1e", "e-3", "1e-3x", "5 clips"]


def test_lists_of_ids_choose_the_videos_for_training_and_for_validation(tmp_path):
    captions = {f"v{number}": ["a", "b"] for number in range(3)}
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    for number in range(3):
        (tmp_path / f"v{number}.mp4").write_bytes(b"")
    for name, ids in (("train_list.txt", "v0\nv2\n"), ("val_list.txt", "v1\n")):
        (tmp_path / name).write_text(ids)
    lists = {"train": "captions.json", "train_videos": "train_list.txt"}
    lists |= {"validation": "captions.json", "validation_videos": "val_list.txt"}
    found = load_recipe("retrieval/msvd", [f"data.{key}={value}" for key, value in lists.items()])
    read = TrainingData.read(found.data, found.model.task, tmp_path)
    for rows, videos in ((read.train, ["v0.mp4", "v2.mp4"]), (read.validation, ["v1.mp4"])):
        assert [Path(row["video"]).name for row in rows] == [video for video in videos for _ in range(2)]
        assert rows["caption"] == ["a", "b"] * len(videos)


def test_only_recipes_for_videos_of_your_own_have_other_pixels_than_the_released_runs():
    fast = {"tensor", "torchvision_bilinear", "torchvision_bicubic"}
    found = {}
    for name in recipe_names():
        clip = load_recipe(name).data.clip
        options = {} if clip is None else clip.view_options
        if chosen := {key: value for key, value in options.items() if isinstance(value, str) and value in fast}:
            found[name] = chosen
    assert found == FAST_PIXELS
