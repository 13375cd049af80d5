"""Refinement of proposals: as the model alone refines them; it learns; from raw videos and in evaluation."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from program import assert_refused, run
from tasks.temporal_localization.drawn import FPS, STRIDE, WINDOW, write_features
from tasks.temporal_localization.heads import CHANNELS, write_encoder
from tasks.workers import assert_equal_results
from transformers import pipeline
from video.clips import write_video

from internvideo_hf import FeatureExtractor, TCANetConfig, TCANetForTemporalLocalization
from internvideo_hf.data.features import FeatureFolder, FeatureSettings
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.inference.features import extract_to_file
from internvideo_hf.inference.untrimmed import extract_features
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.temporal_localization.annotations import VideoAnnotation
from internvideo_hf.tasks.temporal_localization.data import FeatureDataset
from internvideo_hf.tasks.temporal_localization.decoding import Detections, Suppression, suppress
from internvideo_hf.tasks.temporal_localization.metrics import SegmentTable, mean_average_precision
from internvideo_hf.tasks.temporal_localization.proposals import Proposals, read_proposals
from internvideo_hf.tasks.temporal_localization.refinement import (
    ProposalDataset,
    check_step,
    collate_proposals,
    refine_proposals,
    refines,
)
from internvideo_hf.training.recipes import load_recipe
from internvideo_hf.training.run import train

SIZES = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_groups": 2,
    "boundary_hidden_size": 8, "num_start_samples": 8, "num_action_samples": 16, "num_end_samples": 8,
}  # fmt: skip
RECIPE = "temporal_localization/tcanet_hacs"
CLASSES = ("jump", "run")


def head(**changes) -> TCANetForTemporalLocalization:
    torch.manual_seed(0)
    config = TCANetConfig(**{**SIZES, "feature_size": 4, "max_sequence_length": 20, "step_seconds": 0.5, **changes})
    return TCANetForTemporalLocalization(config).eval()


def drawn(count: int, most: float) -> Detections:
    """Return proposals within `most` steps of a grid."""
    generator = torch.Generator().manual_seed(1)
    starts, lengths, scores = torch.rand(3, count, generator=generator)
    segments = torch.stack([starts * (most - 4), starts * (most - 4) + 1 + 3 * lengths], dim=1)
    return Detections(segments, scores, torch.zeros(count, dtype=torch.long))


def by_hand(model, rows: torch.Tensor, proposals: Detections) -> Detections:
    with torch.no_grad():
        outputs = model(rows[None], (proposals.segments[None] + 0.5) * 0.5, proposals.scores[None])
    refined = Detections(outputs.segments[-1][0] / 0.5 - 0.5, outputs.scores[0], proposals.labels)
    return suppress(refined, Suppression(**model.config.suppression))


def test_proposals_of_a_grid_are_refined_in_seconds_of_the_model(monkeypatch):
    model, rows, proposals = head(), torch.randn(18, 4), drawn(30, 18)
    assert refines(model.config)
    expected = by_hand(model, rows, proposals)
    for at_once in (256, 7):
        monkeypatch.setattr("internvideo_hf.tasks.temporal_localization.refinement._AT_ONCE", at_once)
        found = refine_proposals(model, rows, proposals)
        torch.testing.assert_close(found.segments, expected.segments)
        torch.testing.assert_close(found.scores, expected.scores)
    nothing = refine_proposals(model, rows, Detections(*(tensor[:0] for tensor in proposals)))
    assert nothing.segments.shape == (0, 2)


def test_a_long_video_is_read_in_windows():
    model, rows = head(), torch.randn(47, 4)
    # The windows begin at 0, 10, 20 and 27; the middle of [33, 35] is 34.5 behind the beginning, nearest to 37.
    proposals = Detections(torch.tensor([[33.0, 35.0]]), torch.ones(1), torch.zeros(1, dtype=torch.long))
    inside = proposals._replace(segments=proposals.segments - 27)
    expected = by_hand(model, rows[27:], inside).segments + 27
    torch.testing.assert_close(refine_proposals(model, rows, proposals).segments, expected)


def test_proposals_of_several_classes_compete_among_their_own():
    model, rows = head(), torch.randn(18, 4)
    twice = Detections(torch.tensor([[3.0, 9.0]] * 2), torch.tensor([0.9, 0.8]), torch.tensor([0, 1]))
    apart, together = (
        refine_proposals(model, rows, twice._replace(labels=labels)).scores
        for labels in (twice.labels, torch.zeros(2, dtype=torch.long))
    )
    assert apart[1] / apart[0] == pytest.approx(0.8 / 0.9) and together[1] < 0.1 * together[0]


def samples_of(tmp_path, rows: int, most: int | None) -> ProposalDataset:
    np.save(tmp_path / "a.npy", np.arange(4 * rows, dtype=np.float32).reshape(rows, 4))
    video = VideoAnnotation("training", np.array([[0.5, 3.0]], np.float32), np.array([0]), duration=rows / 2)
    settings = FeatureSettings(STRIDE, STRIDE, FPS)
    samples = FeatureDataset({"a": video}, FeatureFolder(tmp_path), settings)
    segments = torch.tensor([[0.5 * n, 0.5 * n + 1] for n in range(rows - 2)])
    known = {"a": Detections(segments, torch.linspace(0, 1, len(segments)), torch.zeros(len(segments)).long())}
    return ProposalDataset(samples, Proposals("p.json", known), most, 5)


def test_training_takes_the_best_proposals_of_a_window(tmp_path):
    whole = samples_of(tmp_path, 30, None)[0]
    assert whole.features.shape == (30, 4) and len(whole.proposals.scores) == 28
    short = samples_of(tmp_path, 30, 40)[0]
    assert short.features.shape == (30, 4) and short.proposals.scores.tolist() == whole.proposals.scores[:5].tolist()
    windows, starts = samples_of(tmp_path, 30, 12), set()
    for epoch in range(8):
        windows.set_epoch(epoch)
        cut = windows[0]
        start = int(cut.features[0, 0]) // 4
        starts.add(start)
        assert cut.features.shape == (12, 4) and len(cut.proposals.scores) == 5
        # Of the proposals whose middle row is in the window, those at its end are the best.
        middles = cut.proposals.segments.mean(dim=1)
        assert middles.max() <= 11.5 and middles.min() >= 11.5 - 5.5
        assert (cut.segments + start).tolist() == whole.segments.tolist()
    assert len(starts) > 2


def test_a_batch_has_the_segment_of_each_proposal(tmp_path):
    samples = samples_of(tmp_path, 30, None)
    one = samples[0]
    few = one._replace(features=one.features[:9], proposals=Detections(*(tensor[-1:] for tensor in one.proposals)))
    none = few._replace(segments=one.segments[:0])
    batch = collate_proposals([one, few, none], 0.5)
    # Windows are as long as steps, so that the model's seconds are those of the video.
    assert batch["proposals"][1].tolist() == [[0.0, 1.0], *[[0.0, 0.0]] * 27]
    assert batch["labels"][1, 0].tolist() == [0.5, 3.0] and batch["labels"][2].sum() == 0
    assert batch["features"].shape == (3, 30, 4) and batch["proposal_scores"].shape == (3, 28)
    outputs = head()(**{name: value for name, value in batch.items() if name != "videos"})
    assert outputs.loss.isfinite()


def test_features_of_another_step_are_refused():
    check_step(head().config, {"stride": 5, "fps": 10})
    check_step(head().config, {"stride": 4, "fps": None})
    with pytest.raises(ValueError, match="are 0.4 s apart, and the model's step_seconds is 0.5"):
        check_step(head().config, {"stride": 4, "fps": 10})


# ---- training and evaluation ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return features with annotations, and proposals that are their segments, moved by up to a third."""
    root = tmp_path_factory.mktemp("data")
    rng, found = np.random.default_rng(3), {}
    for name, video in write_features(root, 30).items():
        found[name] = []
        for row in video["annotations"]:
            start, end = row["segment"]
            for _ in range(8):
                moved = [float(edge + rng.uniform(-0.33, 0.33) * (end - start)) for edge in (start, end)]
                entry = {"segment": [max(moved[0], 0), moved[1]], "score": float(rng.uniform(0.5, 1))}
                found[name].append({**entry, "label": row["label"]})
    (root / "proposals.json").write_text(json.dumps({"results": found}))
    return root


FEATURES = {
    "prefix": "''", "stride": STRIDE, "num_frames": WINDOW, "fps": FPS, "proposals": "proposals.json",
    "thresholds": "[0.7]",
}  # fmt: skip
OF_DATA = [f"data.features.{name}={value}" for name, value in FEATURES.items()]
CHANGES = [
    *(f"model.config.{name}={value}" for name, value in SIZES.items()),
    *("model.config.feature_size=4", "model.config.max_sequence_length=64", "model.config.step_seconds=0.5"),
    *("data.train=annotations.json", "data.validation=annotations.json", "batch_size=4", *OF_DATA),
    *("training.num_train_epochs=20", "training.warmup_steps=5", "training.learning_rate=6e-3"),
    *("training.min_learning_rate=6e-4", "training.dataloader_num_workers=0", "training.eval_strategy=no"),
    *("training.per_device_train_batch_size=4", "training.save_strategy=no"),
]


@pytest.fixture(scope="module")
def trained(data):
    return train(load_recipe(RECIPE, CHANGES), data, data / "run", quiet=True)


def scores(data, model, *changes: str, **options) -> dict:
    protocol = load_protocol("temporal_localization/tcanet_hacs", ["data.list=annotations.json", *OF_DATA, *changes])
    return evaluate(protocol, model, data, device="cpu", workers=0, quiet=True, **options)


AGNOSTIC = ("data.class_scores=null", "fusion={}", "data.features.class_agnostic=true")


def test_it_learns_to_move_proposals_to_their_segments(data, trained):
    truth = json.loads((data / "annotations.json").read_text())["database"]
    held_out = [name for name, video in truth.items() if video["subset"] == "validation"]
    proposals = read_proposals(data / "proposals.json")
    raw = [suppress(proposals.of(name), Suppression("gaussian", False, 0.4, 2.5)) for name in held_out]
    names = [name for name, one in zip(held_out, raw, strict=True) for _ in one.scores]
    segments, found_scores = (torch.cat([getattr(one, part) for one in raw]) for part in ("segments", "scores"))
    rows = [(name, row["segment"]) for name in held_out for row in truth[name]["annotations"]]
    table = SegmentTable([name for name, _ in rows], [segment for _, segment in rows], np.zeros(len(rows)))
    before = mean_average_precision(SegmentTable(names, segments, np.zeros(len(names)), found_scores), table, [0.7])
    after = scores(data, trained, *AGNOSTIC)["scores"]["mAP"]
    assert after > 85 and after > before["mAP"] + 15, (before, after)
    config = json.loads((trained / "config.json").read_text())
    assert config["features"] == {"encoder": None, "window": WINDOW, "stride": STRIDE, "fps": FPS}


def test_the_training_scores_as_the_evaluation_does(data, trained, tmp_path):
    changes = [*CHANGES, "training.num_train_epochs=1", "training.warmup_steps=1", "training.eval_strategy=epoch"]
    final = train(load_recipe(RECIPE, changes), data, tmp_path / "run", quiet=True)
    logged = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    expected = scores(data, final, *AGNOSTIC)["scores"]["mAP"]
    assert [line["eval_mAP"] for line in logged if "eval_mAP" in line] == [pytest.approx(expected, abs=0.01)]


def test_classes_are_those_of_a_classifier_or_of_the_proposals(data, trained, tmp_path):
    named = scores(data, trained, "data.class_scores=null", "fusion={}", report=tmp_path / "report")
    assert named["scores"]["mAP"] > 80
    labels = {row["label"] for rows in _detections(tmp_path) for row in rows}
    assert labels == set(CLASSES)
    (data / "scores.json").write_text(json.dumps({f"video{number:02d}": [0.1, 0.7, 0.2] for number in range(30)}))
    (data / "three.json").write_text((data / "annotations.json").read_text().replace('"jump"', '"a jump"', 1))
    scores(data, trained, "data.class_scores=scores.json", "data.list=three.json", report=tmp_path / "report")
    (rows, *_) = _detections(tmp_path)
    assert len(rows) == 3 * len({tuple(row["segment"]) for row in rows})


def _detections(folder) -> list:
    return list(json.loads((folder / "report/detections.json").read_text())["results"].values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.features.proposals=null"], "refines the segments of another model: set data.features.proposals"),
        (["data.class_scores=null", "data.features.stride=4"], "have stride=4, and the model was trained on stride=5"),
        (["data.class_scores=null", "data.features.proposals=agnostic"], "knows one class, annotations.json 2"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message, data, trained):
    (data / "agnostic").mkdir(exist_ok=True)
    (data / "agnostic/video20.csv").write_text("start,end,score\n0,1,1\n")
    with pytest.raises(RecipeError, match=message):
        scores(data, trained, *changes)
    with pytest.raises(RecipeError, match="localizes by itself: leave out data.features.proposals"):
        train(
            load_recipe("temporal_localization/custom", ["data.features.proposals=proposals.json"]),
            data,
            data / "no",
            quiet=True,
        )


# ---- raw videos -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a head, its encoder, a video and proposals for it."""
    folder = tmp_path_factory.mktemp("raw")
    extractor = FeatureExtractor(write_encoder(folder / "encoder"), 4, 2, device="cpu")
    rule = {"window": 4, "stride": 2, "encoder": str(folder / "encoder"), "revision": extractor.settings.revision}
    head(feature_size=CHANNELS, step_seconds=2 / 30, features=rule).save_pretrained(folder / "head")
    write_video(folder / "clip.mp4", 40)
    segments = [{"start": 0.2, "end": 0.6, "score": 0.9, "label": "run"}, {"start": 0.5, "end": 1.1, "score": 0.4}]
    (folder / "found.json").write_text(json.dumps([{"video": "clip.mp4", "segments": segments}]))
    return folder


def test_a_raw_video_is_refined_as_by_hand(folder):
    answer = pipeline(
        "temporal-action-localization", model=folder / "head", proposals=folder / "found.json", device="cpu"
    )(str(folder / "clip.mp4"))
    model = TCANetForTemporalLocalization.from_pretrained(folder / "head").eval()
    extractor = FeatureExtractor(folder / "encoder", 4, 2, device="cpu")
    rows = extract_features(extractor, folder / "clip.mp4").rows
    seconds = torch.tensor([[[0.2, 0.6], [0.5, 1.1]]])
    # Row 0 has the middle 2 / 30 s of the video, and 1 / 30 s of the model, which counts steps of 2 frames.
    with torch.no_grad():
        outputs = model(rows[None], seconds - 1 / 30, torch.tensor([[0.9, 0.4]]))
    best = answer["segments"][0]
    expected = outputs.segments[-1][0, 0] + 1 / 30
    assert [best["start"], best["end"]] == pytest.approx(expected.tolist(), abs=1e-3)
    assert best["score"] == pytest.approx(outputs.scores[0, 0].item(), abs=1e-4) and best["label"] == "run"


def test_localize_takes_proposals(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("INTERNVIDEO_CACHE", str(tmp_path / "cache"))
    call = ("localize", folder / "clip.mp4", "--model", folder / "head", "--json", "-q", "--min-score", 0)
    done = run(*call, "--proposals", folder / "found.json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert {one["label"] for one in found["segments"]} == {"run"} and len(found["segments"]) == 2
    extract_to_file(
        FeatureExtractor(folder / "encoder", 4, 2, device="cpu"), folder / "clip.mp4", tmp_path / "f.safetensors"
    )
    given = run(*call, "--proposals", folder / "found.json", "--features", tmp_path / "f.safetensors")
    assert json.loads(given.stdout) == [found], given.stderr
    (tmp_path / "scores.json").write_text('{"clip": [0.1, 0.7, 0.2, 0.0]}')
    named = run(*call, "--proposals", folder / "found.json", "--classifier", tmp_path / "scores.json")
    assert json.loads(named.stdout)[0]["segments"][0]["label"] == "class 1"
    assert_refused(run(*call), "refines the segments of another model. Give them (proposals, --proposals)")
    assert_refused(
        run("localize", folder / "clip.mp4", "--model", "demo-actionformer", "--proposals", folder / "found.json"),
        "localizes by itself",
    )
    (tmp_path / "empty.json").write_text('{"other": []}')
    missing = run(*call, "--proposals", tmp_path / "empty.json")
    assert missing.returncode == 2 and "it has no proposals" in missing.stderr


def test_workers_make_the_same_result(data, trained, tmp_path, engine):
    assert_equal_results(partial(scores, data, trained, *AGNOSTIC), tmp_path, engine)
