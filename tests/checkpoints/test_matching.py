"""Every released row against a table of data sets, and how a file finds its row."""

from collections.abc import Mapping
from typing import Any

import pytest
from transformers.video_utils import VideoMetadata

from internvideo_hf import CheckpointError, InternVideoMAEConfig, InternVideoMMConfig, UniFormerV2Config, ViCLIPConfig
from internvideo_hf.checkpoints.matching import FileFacts, identify, processor_fact, released_test
from internvideo_hf.checkpoints.released import released_rows, rows_of_file
from internvideo_hf.processing.presets import build_processor

# How each data set was tested, transcribed from the specifications and the model zoos by hand, and not from the code:
# family, data set -> sampler, its options, frames, and the resized size with its filter where it is not the family's.
DENSE, SPARSE = ("videomae_dense", {"sampling_rate": 4}), ("videomae_sparse", {})
VIDEOMAE = {
    **dict.fromkeys(("K400", "K600", "K700", "K710", "UCF101", "HMDB51"), DENSE),
    **dict.fromkeys(("SSv1", "SSv2"), SPARSE),
    # Which frames Ego4D's tests read is not published: those of VideoMAE's other pretraining data are assumed.
    **dict.fromkeys(("Ego4D verbs", "Ego4D nouns"), DENSE),
}
RETRIEVAL = {  # 1 frame a second, at most so many; those that OpenCV read by whole seconds
    "ActivityNet": ("retrieval_seconds", {}, 64),
    "DiDeMo": ("retrieval_fps", {"start": 0, "end": 31}, 32),
    "LSMDC": ("retrieval_fps", {}, 8),
    "MSR-VTT": ("retrieval_fps", {}, 12),
    "MSVD": ("retrieval_seconds", {}, 8),
    "VATEX": ("retrieval_fps", {}, 8),
}
BICUBIC = ({"shortest_edge": 224}, "pil_bicubic", True)
DEMO = ({"shortest_edge": 256}, "pil_bilinear", True)
SQUASHED = ({"height": 256, "width": 256}, "pil_bicubic", True)  # ffmpeg's decoding to 256 x 256
QUESTIONS = {"MSR-VTT": SQUASHED, "MSVD": SQUASHED, "TGIF-FrameQA": DEMO}
# Clips x crops.
VIEWS = {
    "VideoMAE-B": {"K400": (5, 3), "K710": (5, 3), "SSv2": (2, 3)},
    "VideoMAE-L": {
        **dict.fromkeys(("K400", "K700"), (5, 3)),
        **dict.fromkeys(("SSv2", "Ego4D verbs", "Ego4D nouns"), (2, 3)),
    },
    "VideoMAE-H": {**dict.fromkeys(("K400", "K600", "K700", "K710"), (7, 3)), "SSv1": (2, 3), "HMDB51": None},
    "VideoMAE V2": {**dict.fromkeys(("K400", "K600", "K710", "UCF101", "HMDB51"), (5, 3)), "SSv2": (2, 3)},
    "VideoMAE v1": {"K400": (5, 3), "SSv2": (2, 3), "UCF101": (5, 3)},
    "UniFormerV2": {
        **dict.fromkeys(("K400", "K600", "K700", "K710", "MiT"), (4, 3)),
        **dict.fromkeys(("SSv1", "SSv2"), (1, 3)),
        **dict.fromkeys(("ActivityNet", "HACS"), (10, 3)),
    },
}
UNKNOWN_TO_US = {
    "VideoMAE-B",
    "VideoMAE-L",
    "VideoMAE-H",
    "VideoMAE-B 800e",
    "VideoMAE V2-g",
}
CONFIGS = {
    "internvideo_mae": InternVideoMAEConfig,
    "internvideo_mm": InternVideoMMConfig,
    "uniformerv2": UniFormerV2Config,
    "viclip": ViCLIPConfig,
}


def saved_processor(row: Mapping[str, Any]) -> Any:
    """Return the video processor that the conversion of a row saves."""
    test = released_test([row])
    config = CONFIGS[row["family"]](**row["config"])
    processor = build_processor(config, None, None if test is None else test.settings)
    return getattr(processor, "video_processor", processor)


def rule_of(processor: Any) -> tuple[Any, ...]:
    return processor.sampler, dict(processor.sampler_kwargs)


def pixels_of(processor: Any) -> tuple[Any, ...]:
    size = {name: value for name, value in dict(processor.size).items() if value is not None}
    return size, processor.resize_method, processor.do_center_crop


def views_of(name: str, data_set: str, frames: int) -> tuple[int, int] | None:
    if name.startswith("UniFormerV2") and data_set in ("K400", "K600", "K700", "K710"):
        if "frozen" in name:
            return (4, 3) if frames == 32 else (3, 1)
        return (2, 3) if frames >= 32 else (4, 3)
    return next(views[data_set] for model, views in VIEWS.items() if name.startswith(model))


def test_the_action_detector_is_tested_on_whole_frames():
    (row,) = [row for row in released_rows() if row["labels"] == "ava"]
    processor = saved_processor(row)
    assert (processor.num_frames, rule_of(processor)) == (16, DENSE)
    assert pixels_of(processor) == ({"shortest_edge": 256}, "cv2_linear", False)


@pytest.mark.parametrize(
    "row",
    [row for row in released_rows() if row["family"] == "internvideo_mae" and row["labels"] != "ava"],
    ids=lambda r: r["name"],
)
def test_videomae_is_tested_as_its_data_set(row):
    name, processor = row["name"], saved_processor(row)
    frames, size = (32, 384) if "384" in name else (16, 224)
    assert processor.num_frames == frames
    assert pixels_of(processor) == ({"shortest_edge": size}, "cv2_linear", True)
    if name in UNKNOWN_TO_US or "pretrained" in name:
        assert row["labels"] is None and row["evaluation"] is None
        assert rule_of(processor) == DENSE and processor.released_views is None
        return
    (data_set,) = [known for known in VIDEOMAE if f" {known}" in name.removesuffix(" from K710")]
    assert row["labels"] == (None if data_set.startswith("Ego4D") else data_set.lower())
    assert row["evaluation"]["data_set"] == data_set
    assert rule_of(processor) == VIDEOMAE[data_set]
    views = views_of(name, data_set, frames)
    assert processor.released_views == (None if views is None else list(views))


@pytest.mark.parametrize(
    "row", [row for row in released_rows() if row["family"] == "uniformerv2"], ids=lambda r: r["name"]
)
def test_uniformerv2_is_tested_as_its_data_set(row):
    name, processor = row["name"], saved_processor(row)
    frames, size = map(int, name.replace(" frozen", "").rsplit(" ", 1)[-1].split("x"))
    data_set = next(known for known in VIEWS["UniFormerV2"] if f" {known} " in name)
    assert row["evaluation"]["data_set"] == data_set
    assert (processor.num_frames, rule_of(processor)) == (frames, ("uniformerv2", {}))
    assert pixels_of(saved_processor({**row, "config": row["config"] | {"image_size": size}})) == (
        {"shortest_edge": size},
        "torch_bilinear",
        True,
    )
    assert processor.released_views == list(views_of(name, data_set, frames))


@pytest.mark.parametrize(
    "row", [row for row in released_rows() if row["family"] == "internvideo_mm"], ids=lambda r: r["name"]
)
def test_internvideo_mm_is_tested_as_its_data_set(row):
    model, _, data_set = row["name"].replace(" VQA ", " questions ").partition(" ")
    kind, _, data_set = data_set.partition(" ")
    processor = saved_processor(row)
    if kind == "retrieval":
        sampler, options, frames = RETRIEVAL[data_set]
        assert (*rule_of(processor), processor.num_frames) == (sampler, options, frames)
        assert pixels_of(processor) == BICUBIC
    elif kind == "questions":
        assert (*rule_of(processor), processor.num_frames) == ("internvideo_mm_intervals", {}, 8)
        assert pixels_of(processor) == QUESTIONS[data_set]
    else:
        assert (*rule_of(processor), processor.num_frames) == ("internvideo_mm", {}, 8)
        assert pixels_of(processor) == DEMO
    assert dict(processor.crop_size) == {"height": 224, "width": 224} and processor.released_views is None


@pytest.mark.parametrize("row", [row for row in released_rows() if row["family"] == "viclip"], ids=lambda r: r["name"])
def test_viclip_is_tested_by_the_training_code(row):
    processor = saved_processor(row)
    assert (*rule_of(processor), processor.num_frames) == ("viclip_middle", {}, 8)
    assert pixels_of(processor) == ({"height": 224, "width": 224}, "torchvision_v1_bicubic", False)


def test_sparse_frames_by_hand():
    # The specification's example: 250 frames, the first of two interleaved clips.
    row = next(row for row in released_rows() if row["name"] == "VideoMAE-B SSv2")
    processor = saved_processor(row)
    indices = processor.sample_frames(VideoMetadata(total_num_frames=250, fps=25), num_clips=2).reshape(2, 16)
    assert indices[0].tolist()[:4] == [0, 15, 31, 46] and indices[0][-1] == 234
    assert indices[1].tolist()[:2] == [7, 23]


# How a file finds its row


def facts(name: str, family: str, **known: Any) -> FileFacts:
    defaults = {"classes": None, "head": None, "data_set": None, "settings": {}, "width": lambda: 1024}
    return FileFacts(name, family, **defaults | known)


def find(name: str, family: str, **known: Any) -> tuple[list[str], Any]:
    rows, test = identify(facts(name, family, **known), rows_of_file(name, family))
    return [row["name"] for row in rows], test


def test_a_name_of_six_files_is_asked_about():
    with pytest.raises(CheckpointError) as caught:
        find("pytorch_model.bin", "internvideo_mm")
    assert "6 released files" in str(caught.value)
    assert "--data-set (data_set=): activitynet, didemo, lsmdc, msrvtt, msvd, vatex" in str(caught.value)


@pytest.mark.parametrize("data_set", ["msrvtt", "MSR-VTT", "msr_vtt"])
def test_the_data_set_finds_the_row(data_set):
    names, test = find("pytorch_model.bin", "internvideo_mm", data_set=data_set)
    assert names == ["InternVideo-MM-L-14 retrieval MSR-VTT"]
    assert test.processor["num_frames"] == 12 and test.data_sets == ("MSR-VTT",)
    assert find("renamed.pt", "internvideo_mm", data_set=data_set)[0] == names


@pytest.mark.parametrize("data_set", ["activitynet", "anet", "ActivityNet Captions"])
def test_activitynet_has_three_names(data_set):
    assert find("pytorch_model.bin", "internvideo_mm", data_set=data_set)[1].processor["num_frames"] == 64


def test_an_unknown_data_set_names_the_nearest():
    with pytest.raises(ValueError, match=r"data_set: got 'msrvt', expected one of .*Did you mean msrvtt\?"):
        find("pytorch_model.bin", "internvideo_mm", data_set="msrvt")
    with pytest.raises(ValueError, match="no released file of viclip belongs to a data set"):
        find("mine.pth", "viclip", data_set="msrvtt")
    with pytest.raises(CheckpointError, match="has a classification head.*--head"):
        find("ViT-H.pth", "internvideo_mae", data_set="ssv2", classes=174)


def test_settings_and_sizes_narrow_the_choice():
    settings = {"vision_config": {"num_frames": 64}}
    assert find("pytorch_model.bin", "internvideo_mm", settings=settings)[0] == [
        "InternVideo-MM-L-14 retrieval ActivityNet"
    ]
    with pytest.raises(CheckpointError, match="lsmdc, msvd, vatex"):
        find("pytorch_model.bin", "internvideo_mm", settings={"vision_config": {"num_frames": 8}})
    # A file of another size than all six, with settings of its own, is none of them.
    settings = {"vision_config": {"num_frames": 4}}
    names, test = find("pytorch_model.bin", "internvideo_mm", width=lambda: 768, settings=settings)
    assert len(names) == 6 and test is None
    with pytest.raises(CheckpointError, match="If it is none of them, rename it"):
        find("pytorch_model.bin", "internvideo_mm", width=lambda: 768)


def test_the_classes_tell_the_rule_of_a_file_of_ones_own():
    for head in ("ssv1", "ssv2", None):  # 174 classes are those of one of the two, which were tested alike
        _, test = find("mine.pth", "internvideo_mae", classes=174, head=head)
        assert test.processor["sampler"] == "videomae_sparse"
    assert find("mine.pth", "internvideo_mae", classes=400, head="k400")[1].processor == {}
    assert find("mine.pth", "internvideo_mae", classes=11)[1] is None
    assert find("mine.pth", "internvideo_mae")[1] is None


def test_a_kinetics_710_head_keeps_the_views_of_its_file():
    names, test = find("vit_h_k710_ft.pth", "internvideo_mae", classes=710, head="k400")
    assert names == ["VideoMAE-H K710"] and test.views == (7, 3)
    # A name that promises other classes than are there is not believed.
    names, test = find("vit_b_hybrid_pt_800e_ssv2_ft.pth", "internvideo_mae", classes=400, head="k400")
    assert test.processor == {} and test.views is None


def test_the_original_videomae_is_found_by_its_size_and_classes():
    names, test = find("checkpoint.pth", "internvideo_mae", classes=400, head="k400", width=lambda: 1280)
    assert names == ["VideoMAE v1-H K400 1600e"] and test.views == (5, 3)
    names, test = find("checkpoint.pth", "internvideo_mae", classes=174, head="ssv2", width=lambda: 768)
    assert names == ["VideoMAE v1-B SSv2 800e", "VideoMAE v1-B SSv2 2400e"] and test.views == (2, 3)


def test_the_card_says_which_rule_it_is():
    def fact(name: str) -> str:
        row = next(row for row in released_rows() if row["name"] == name)
        return processor_fact(saved_processor(row), released_test([row]))

    assert fact("VideoMAE-L SSv2") == (
        "Processor: 16 frames by videomae_sparse, 2 x 3 views, as in the released test on SSv2"
    )
    assert fact("InternVideo-MM-L-14 retrieval MSR-VTT") == (
        "Processor: 12 frames by retrieval_fps, as in the released test on MSR-VTT"
    )
    assert fact("VideoMAE-H HMDB51 split 1") == (
        "Processor: 16 frames by videomae_dense, the family's own; the original does not state how it tested on HMDB51"
    )
    assert fact("InternVideo-MM-L-14") == "Processor: 8 frames by internvideo_mm, the family's own"
