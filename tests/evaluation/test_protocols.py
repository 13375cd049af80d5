"""Protocols: complete, equal to a second transcription, and strict about errors."""

import json
from pathlib import Path

import pytest

from internvideo_hf.auto import FAMILIES
from internvideo_hf.checkpoints.merging import VARIANTS
from internvideo_hf.checkpoints.released import released_rows
from internvideo_hf.evaluation.protocols import ensemble_names, load_ensemble, load_protocol, protocol_names
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks import evaluation_tasks

NAMES = protocol_names()

# Data set -> frames zero-shot and fine-tuned, share of CLIP, rule, R@1 zero-shot and fine-tuned as t2v and v2t
RETRIEVAL = {
    "msrvtt": (8, 12, 0.5, "retrieval_fps", (40.0, 37.5), (55.2, 57.9)),
    "msvd": (12, 8, 0.25, "retrieval_seconds", (43.4, 67.6), (58.4, 76.3)),
    "lsmdc": (6, 8, 0.5, "retrieval_fps", (17.6, 13.2), (34.0, 34.9)),
    "anet": (16, 64, 0.5, "retrieval_seconds", (30.7, 31.4), (62.2, 62.8)),
    "didemo": (32, 32, None, "retrieval_fps", (31.5, 33.5), (57.9, 59.1)),
    "vatex": (8, 8, 0.5, "retrieval_fps", (49.5, 69.5), (72.0, 86.0)),
}
# What the paper says where the read-me says something else
PAPER = {"msrvtt": (40.7, 39.6), "vatex_finetuned": (71.1, 87.2)}

OWN_LISTS = (
    "classification/custom",
    "question_answering/custom",
    "captioning/captions",
    "temporal_grounding/custom",
    "temporal_localization/custom",
    "action_detection/custom",
    "open_set/custom",
    "multi_label/custom",
    "regression/custom",
)
UNPUBLISHED = (
    *OWN_LISTS,
    *("ego4d/language_queries", "ego4d/moment_queries", "ego4d/short_term_anticipation", "ego4d/hand_prediction"),
)


@pytest.mark.parametrize("name", NAMES)
def test_protocol_is_whole(name):
    found = load_protocol(name)
    assert found.title and found.source and (found.published or name in UNPUBLISHED)
    any_family = found.task in ("classification", "open_set", "object_detection") or name in UNPUBLISHED
    assert found.family in FAMILIES or (found.family is None and any_family)
    models = {row["name"] for row in released_rows()}
    assert {*filter(None, [found.model]), *(entry.model for entry in found.published if entry.model)} <= models
    if found.merge is not None:
        assert VARIANTS[found.merge.variant].family == found.family
    for entry in found.published:
        assert entry.scores.keys() <= set(evaluation_tasks()[found.task].columns) and entry.where in (
            "paper",
            "read-me",
            "model zoo",
        )
        assert (entry.direction is None) == (entry.dual_softmax is None) == (found.task != "retrieval")
    assert name.startswith((found.task, "ego4d/"))  # a data set with many tasks


@pytest.mark.parametrize("data_set", RETRIEVAL)
def test_retrieval_is_as_published(data_set):
    frames, finetuned_frames, share, rule, zero_shot, finetuned = RETRIEVAL[data_set]
    for name, num_frames, scores in (
        (data_set, frames, zero_shot),
        (f"{data_set}_finetuned", finetuned_frames, finetuned),
    ):
        found = load_protocol(f"retrieval/{name}")
        assert (found.processor["num_frames"], found.processor["sampler"]) == (num_frames, rule)
        assert found.processor.get("sampler_kwargs") == ({"start": 0, "end": 31} if data_set == "didemo" else None)
        assert (found.text_length, found.factor, found.several, found.caption_rule) == (77, "model", "video", None)
        told = {(entry.where, entry.direction): entry.scores["R@1"] for entry in found.published}
        directions = ("text_to_video", "video_to_text")
        assert tuple(told["read-me", direction] for direction in directions) == scores
        assert tuple(told["paper", direction] for direction in directions) == PAPER.get(name, scores)
        assert all(entry.dual_softmax for entry in found.published)
    merge = load_protocol(f"retrieval/{data_set}").merge
    assert (merge and merge.weight) == share
    assert load_protocol(f"retrieval/{data_set}_finetuned").merge is None


@pytest.mark.parametrize(
    ("data_set", "score"), [("thumos", 71.58), ("anet", 39.0), ("hacs", 41.32), ("fineaction", 17.57)]
)
def test_temporal_localization_is_as_published(data_set, score):
    original = json.loads(Path(f"tests/manifests/actionformer_{data_set}_resolved_config.json").read_text())
    found, settings = load_protocol(f"temporal_localization/{data_set}"), original["dataset"]
    assert [entry.scores for entry in found.published] == [{"mAP": score}] and not found.as_published
    features = found.data.features
    assert ([features.subset], features.prefix) == (original["val_split"], settings["file_prefix"] or "")
    assert (features.stride or -1, features.num_frames) == (settings["feat_stride"], settings["num_frames"])
    assert (features.fps, features.fixed_length or settings["max_seq_len"]) == (
        settings["default_fps"],
        settings["max_seq_len"],
    )
    scores, test = found.data.class_scores, original["test_cfg"]
    assert Path(scores or "").name == Path(test["ext_score_file"] or "").name
    assert Path(found.data.list).name == Path(settings["json_file"]).name
    assert (found.fusion == {"classes": 2, "max_segments": 200}) == (scores is not None)
    thresholds = [0.3, 0.4, 0.5, 0.6, 0.7] if data_set == "thumos" else [0.5 + 0.05 * step for step in range(10)]
    assert features.thresholds == pytest.approx(thresholds)


def test_action_detection_is_as_published():
    for name in ("ava", "ava_kinetics"):
        found = load_protocol(f"action_detection/{name}")
        assert [entry.scores for entry in found.published] == [{"mAP": 41.01}]
        boxes = found.data.boxes
        assert (boxes.min_score, boxes.min_overlap, boxes.extension) == (0.8, 0.5, [0.1, 0.05])
        assert not boxes.as_published
        # Of AVA's 80 actions, the 20 that the challenge leaves out.
        assert {*range(1, 81)}.difference(boxes.actions) == {
            *(2, 16, 18, 19, 21, 23, 25, 31, 32, 33, 35, 39, 40, 42, 44, 50, 53, 55, 71, 75),
        }


def test_viclip_and_classes_are_as_published():
    found = load_protocol("zero_shot/viclip_k400")
    assert found.processor["resize_method"] == "torchvision_v1_bicubic" and not found.processor["do_center_crop"]
    assert (found.text_length, found.prompts, found.published[0].scores) == (
        32,
        "viclip",
        {"top-1": 64.8, "mean": 75.7},
    )
    assert load_protocol("zero_shot/k400").published[0].scores == {"top-1": 64.25}
    assert load_protocol("retrieval/viclip_msrvtt").several == "caption"
    assert load_protocol("retrieval/viclip_msrvtt").factor == "one"
    assert [len(load_protocol(f"multiple_choice/{name}").data.leave_out) for name in ("msrvtt", "lsmdc")] == [0, 3]


def test_two_numbers_of_views_are_refused():
    with pytest.raises(RecipeError, match="num_clips is 2 and processor.num_clips is 3: they mean the same"):
        load_protocol("retrieval/msrvtt", ["num_clips=2", "processor.num_clips=3"])
    assert load_protocol("retrieval/msrvtt", ["num_clips=2", "processor.num_clips=2"]).views == {"num_clips": 2}


def test_changes_change_values():
    changed = load_protocol("retrieval/msrvtt", ["processor.num_frames=16", "data.list=mine.csv", "merge=null"])
    assert (changed.processor["num_frames"], changed.data.list, changed.merge) == (16, "mine.csv", None)
    assert changed.processor["sampler"] == "retrieval_fps"


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("retrieval/msrvt", "merge=null", "Did you mean retrieval/msrvtt"),
        ("retrieval/msrvtt", "text_lenght=32", "Did you mean text_length"),
        ("retrieval/msrvtt", "processor.num_frame=4", "Did you mean processor.num_frames"),
        ("retrieval/msrvtt", "data.lists=x.csv", "Did you mean data.list"),
        ("retrieval/msrvtt", "text_length=77.5", "text_length is 77.5, expected int"),
        ("retrieval/msrvtt", "several=text", "several: got 'text', expected one of video, caption"),
        ("retrieval/msrvtt", "factor=two", "expected one of model, one"),
        ("retrieval/msrvtt", "task=search", "got .search., expected one of classification, zero_shot, retrieval"),
        ("retrieval/msrvtt", "text_length=2", "at least 3"),
        ("retrieval/msrvtt", "data.layout=msrvtt_cvs", "data.layout: got 'msrvtt_cvs', .*Did you mean msrvtt_csv"),
        ("retrieval/msrvtt", "merge.share=0.5", "merge.share"),
        ("retrieval/msrvtt", "published=[{where: paper}]", "published.0.scores must be given"),
        ("zero_shot/k400", "data.labels=k401", "data.labels: got 'k401'"),
        ("zero_shot/k400", "prompts=null", "prompts: got None"),
        ("multiple_choice/msrvtt", "data.layout=null", "data.layout: got None, expected one of msrvtt, lsmdc"),
        ("retrieval/msrvtt", "processor.num_frames=abc", "processor.num_frames: got 'abc', expected an integer"),
        ("retrieval/msrvtt", "processor.size=a", "processor.size: got 'a', expected .shortest_edge., or .height."),
        ("retrieval/msrvtt", "processor.size={width: 3}", "processor.size: got {'width': 3}"),
        ("retrieval/msrvtt", "processor.crop_size=-3", "processor.crop_size: got -3"),
        ("retrieval/msrvtt", "processor.resize_method=pil_bilinar", "Did you mean pil_bilinear"),
        ("retrieval/msrvtt", "processor.decoder=ffmpeg", "processor.decoder: got 'ffmpeg'"),
        ("retrieval/msrvtt", "processor.sampler=uniformer", "processor.sampler: got 'uniformer'"),
        ("retrieval/msrvtt", "num_crops=0", "num_crops is 0, expected 1 or more"),
        ("retrieval/msrvtt", "family=internvideo_m", "family: got 'internvideo_m', .*Did you mean internvideo_mm"),
        ("retrieval/msrvtt", "data.labels=k400", "data.labels changes nothing in retrieval. Leave it out."),
        ("multiple_choice/msrvtt", "data.only=ids.txt", "data.only changes nothing in multiple_choice"),
        ("classification/custom", "factor=one", "factor changes nothing in classification"),
        ("navigation/r2r_ce", "data.layout=csv", "data.layout changes nothing in navigation. Leave it out."),
        ("classification/custom", "several=all", "several changes nothing"),
        ("classification/custom", "prompts=k400", "prompts changes nothing"),
        ("classification/custom", "text_length=5", "text_length changes nothing"),
        ("classification/custom", "family=vivit", "family: got 'vivit', expected one of"),
        ("classification/custom", "released=nosuch", "released: got 'nosuch', expected one of .*HMDB51"),
        ("classification/custom", "released=DiDeMo", "released: got 'DiDeMo'"),
        ("classification/custom", "model=VideoMAE-B K400", "this protocol has none. Leave it out"),
        ("classification/k400", "model=videomae-b k40", "Did you mean VideoMAE-B K400"),
    ],
)
def test_mistakes_are_named(name, change, words):
    with pytest.raises(RecipeError, match=words):
        load_protocol(name, [change])


class TestEnsembles:
    def test_published_ensembles_have_the_papers_numbers(self):
        """Table 2 of arXiv:2212.03191."""
        told = {
            name: [(entry.labels, entry.scores["top-1"]) for entry in load_ensemble(name).published]
            for name in ensemble_names()
        }
        assert told == {
            "ensemble/classifiers": [],
            "ensemble/internvideo_d": [("k400", 90.9), ("k600", 91.1), ("k700", 83.8)],
            "ensemble/internvideo_t": [("k400", 91.1), ("k600", 91.3), ("k700", 84.0)],
        }
        families = [[member.family for member in load_ensemble(name).members] for name in ensemble_names()]
        assert families == [[], ["internvideo_mae", "uniformerv2"], ["internvideo_mae", "uniformerv2", "uniformerv2"]]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ("weights=best", "equal, fitted"),
            ("weights=[]", "one above"),
            ("weights=[-1, 2]", "0 or more"),
            ("weights=[.inf, 1]", "0 or more"),
            ("weights=fitted", "data.validation"),
            ("data.validation=val.csv", "other videos"),
            ("data.labels=k401", "k400"),
            ("data.layout=x", "expected one of"),
            ("wieghts=equal", "Did you mean weights"),
        ],
    )
    def test_mistakes_are_refused(self, change, message):
        with pytest.raises(RecipeError, match=message):
            load_ensemble("classifiers", [change])
