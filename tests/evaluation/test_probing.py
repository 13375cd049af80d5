"""Probing: lists, draws, features that stay, and scores of probes against those by hand."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from stock_models import write_stock
from transformers import AutoModel, VideoMAEImageProcessor

from internvideo_hf import VideoDecodeError, VideoReader
from internvideo_hf.data.failures import TooManyFailuresError
from internvideo_hf.evaluation import probing
from internvideo_hf.evaluation.probes import load_probe
from internvideo_hf.evaluation.probing import (
    ALL,
    ClipEncoder,
    Clips,
    check_shots,
    draw,
    probe,
    read_clips,
    split_test,
    table,
)
from internvideo_hf.inference.runner import RunSettings

HERE = {"device": "cpu", "settings": RunSettings(workers=0, quiet=True, max_damaged=0.5)}
LINEAR = {"linear": load_probe("linear")}
COLORS = {"red": (108, 100, 100), "green": (100, 106, 100), "blue": (100, 100, 110)}


def write_clip(path: Path, color: tuple[int, int, int], seed: int) -> Path:
    """Write 6 frames of a color with noise of its own."""
    random = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height = stream.width = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(6):
            frame = np.clip(np.array(color) + random.normal(0, 60, (32, 32, 3)), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of eight clips of each of three classes, with lists train.csv (five) and val.csv (three)."""
    folder = tmp_path_factory.mktemp("clips")
    for number, (name, color) in enumerate(COLORS.items()):
        for place in range(8):
            write_clip(folder / name / f"{place}.mp4", color, 10 * number + place)
    for split, places in (("train", range(5)), ("val", range(5, 8))):
        rows = [f"{name}/{place}.mp4,{name}" for name in COLORS for place in places]
        (folder / f"{split}.csv").write_text("\n".join(["video,label", *rows, ""]))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stock("videomae", tmp_path_factory.mktemp("videomae"))


def made(count: int, classes: int) -> Clips:
    return Clips([{"video": f"{n}.mp4"} for n in range(count)], np.arange(count) % classes)


def test_scores_are_those_of_the_same_classifier_by_hand(clips, model, tmp_path):
    recipes = {"linear": load_probe("linear", ["penalties=[0.1]", "penalty=0.1"])}
    result = probe(
        model, clips / "train.csv", recipes, tmp_path / "out", validation=clips / "val.csv", shots=(2, ALL), seeds=2,
        **HERE,
    )  # fmt: skip
    encoder = AutoModel.from_pretrained(model).eval()
    processor = VideoMAEImageProcessor.from_pretrained(model)

    def features(names: list[str]) -> np.ndarray:
        rows = []
        for name in names:
            with VideoReader(clips / name) as reader:
                frames = reader.read(np.array([0, 1, 3, 4]))
            with torch.no_grad():
                tokens = encoder(**processor([list(frames)], return_tensors="pt")).last_hidden_state
            rows.append(tokens.mean(dim=1)[0].numpy())
        return np.stack(rows)

    names = sorted(COLORS)  # blue, green, red: the classes in order
    train = [f"{name}/{place}.mp4" for name in COLORS for place in range(5)]
    test = [f"{name}/{place}.mp4" for name in COLORS for place in range(5, 8)]
    labels, truth = (np.array([names.index(name.split("/")[0]) for name in part]) for part in (train, test))
    rows, tested = features(train), features(test)
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    stock = LogisticRegression(C=1 / (0.1 * 15), tol=1e-9, max_iter=10_000).fit((rows - mean) / spread, labels)
    expected = 100 * (stock.predict((tested - mean) / spread) == truth).mean()
    few, everything = result["scores"]
    assert (few["shots"], few["clips"], few["chosen"], few["held_out"]) == (2, [6, 6], [0.1, 0.1], [3, 3])
    assert everything["top-1"] == {"mean": pytest.approx(expected), "confidence": 0, "seeds": [expected] * 2}
    assert "top-5" not in everything
    assert result["data"]["chance"] == pytest.approx(100 / 3)
    assert json.loads((tmp_path / "out/result.json").read_text()) == result
    assert 40 < expected < 100
    assert "linear                 all " in table(result)


def test_features_and_probes_stay_for_the_next_run(clips, model, tmp_path, monkeypatch):
    options = {"validation": clips / "val.csv", "shots": (1,), **HERE}
    first = probe(model, clips / "train.csv", LINEAR, tmp_path / "out", seeds=2, **options)

    def encode(self, views):
        raise AssertionError("the model ran again")

    shape = ClipEncoder.shape
    monkeypatch.setattr(ClipEncoder, "shape", lambda self: (16,))
    monkeypatch.setattr(ClipEncoder, "encode", encode)
    trained = []
    fit = probing.fit
    monkeypatch.setattr(probing, "fit", lambda *arguments: trained.append(1) or fit(*arguments))
    again = probe(model, clips / "train.csv", LINEAR, tmp_path / "out", seeds=3, **options)
    assert again["scores"][0]["top-1"]["seeds"][:2] == first["scores"][0]["top-1"]["seeds"]
    assert len(trained) == 1, "only the third seed is new"
    monkeypatch.undo()
    assert shape(ClipEncoder(model, "pooled", "cpu")) == (16,)


def test_an_interrupted_extraction_goes_on(clips, model, tmp_path, monkeypatch):
    options = {"validation": clips / "val.csv", "seeds": 1, **HERE}
    options["settings"] = RunSettings(batch_size=4, workers=0, quiet=True)
    monkeypatch.setattr("internvideo_hf.utils.journal.CHECKPOINT_EVERY_SECONDS", 0.0)
    encode, seen = ClipEncoder.encode, []

    def counted(self, views):
        (pixels,) = views.values()
        if len(seen) == 3:  # the first is of black frames
            raise KeyboardInterrupt
        seen.append(len(pixels))
        return encode(self, views)

    monkeypatch.setattr(ClipEncoder, "encode", counted)
    with pytest.raises(KeyboardInterrupt):
        probe(model, clips / "train.csv", LINEAR, tmp_path / "out", **options)
    rest: list[int] = []
    monkeypatch.setattr(ClipEncoder, "encode", lambda self, views: rest.append(1) or encode(self, views))
    found = probe(model, clips / "train.csv", LINEAR, tmp_path / "out", **options)
    assert len(rest) == 1 + 4, "of 24 clips 8 were done"
    whole = probe(model, clips / "train.csv", LINEAR, tmp_path / "whole", **options)
    assert whole["scores"] == found["scores"]


def test_an_attentive_probe_reads_the_tokens_in_half_precision(clips, model, tmp_path, monkeypatch):
    recipes = {"attentive": load_probe("attentive", ["learning_rates=[3e-3]", "least_steps=5", "epochs=1"])}
    result = probe(model, clips, recipes, tmp_path / "out", seeds=1, **HERE)
    assert (result["model"]["tokens"], result["model"]["dim"]) == (8, 16)
    (part,) = (tmp_path / "out/features").rglob("*.safetensors")
    encoder = ClipEncoder(model, "tokens", "cpu")
    (row,) = read_clips(clips, None).part(np.array([0])).rows
    from safetensors.torch import load_file

    stored = load_file(part)["tokens"]
    assert stored.shape == (24, 8, 16)
    assert stored.dtype == torch.float16
    expected = encoder.encoder.encode(encoder.reader(row)["pixel_values_videos"])
    assert (stored.float() - expected).flatten(1).abs().amax(dim=1).min() < 1e-2
    with pytest.raises(ValueError, match=r"The tokens of 24 clips, 8 x 16 each, take .*--max-memory=1e-06"):
        probe(model, clips, recipes, tmp_path / "out", seeds=1, max_memory=1e-6, **HERE)
    assert ClipEncoder("demo-mm", "tokens", "cpu").shape()[-1] == 96
    encoder.encode({"pixels": torch.zeros(1, 1, 4, 3, 32, 32)})
    monkeypatch.setattr(encoder.encoder, "encode", lambda clips: torch.zeros(len(clips), 12, 16))
    with pytest.raises(ValueError, match="gives clips of other sizes other numbers of tokens"):
        encoder.encode({"pixels": torch.zeros(1, 1, 4, 3, 32, 48)})
    by_time = write_stock("vjepa2-fps", tmp_path / "by_time")
    with pytest.raises(ValueError, match="clips have different numbers of tokens"):
        probe(by_time, clips, recipes, tmp_path / "other", seeds=1, **HERE)


def test_unreadable_clips_are_left_out_of_training_and_wrong_in_the_test(clips, model, tmp_path):
    (clips / "bad.mp4").write_text("no video")
    for split, row in (("train", "bad.mp4,red"), ("val", "gone.mp4,red")):
        content = (clips / f"{split}.csv").read_text() + f"{row}\n"
        (clips / f"{split}_bad.csv").write_text(content)
    options = {"validation": clips / "val_bad.csv", "seeds": 1, **HERE}
    found = probe(model, clips / "train_bad.csv", LINEAR, tmp_path / "out", **options)
    options["validation"] = clips / "val.csv"
    whole = probe(model, clips / "train.csv", LINEAR, tmp_path / "whole", **options)
    assert {Path(entry["video"]).name: entry["of"] for entry in found["damaged"]} == {
        "bad.mp4": "train",
        "gone.mp4": "test",
    }
    assert found["scores"][0]["clips"] == [15]
    assert found["scores"][0]["top-1"]["mean"] == pytest.approx(whole["scores"][0]["top-1"]["mean"] * 9 / 10)
    assert "1 unreadable and left out" in table(found)
    with pytest.raises(ValueError, match=r"6 clips of each class are asked for, and 'blue' has 5"):
        probe(model, clips / "train_bad.csv", LINEAR, tmp_path / "out", shots=(6,), **options)
    strict = options | {"settings": RunSettings(workers=0, quiet=True, max_damaged=0.0)}
    with pytest.raises(TooManyFailuresError):
        probe(model, clips / "train_bad.csv", LINEAR, tmp_path / "strict", **strict)


def test_clips_that_become_readable_are_trained_on(clips, model, tmp_path, monkeypatch):
    whole = probe(
        model, clips / "train.csv", LINEAR, tmp_path / "whole", validation=clips / "val.csv", seeds=1, **HERE
    )
    read, options = probing.read_views, {"validation": clips / "val.csv", "seeds": 1, "retry": True, **HERE}

    def broken(row, processor, **settings):
        if Path(row["video"]).parts[-2:] in (("red", "0.mp4"), ("blue", "6.mp4")):
            raise VideoDecodeError(str(row["video"]), "the disk was away", "Try again.")
        return read(row, processor, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(probing, "read_views", broken)
        few = probe(model, clips / "train.csv", LINEAR, tmp_path / "out", **options)
    assert few["scores"][0]["clips"] == [14] and len(few["damaged"]) == 2
    again = probe(model, clips / "train.csv", LINEAR, tmp_path / "out", **options)
    assert again["scores"][0]["clips"] == [15] and not again["damaged"]
    assert again["scores"] == whole["scores"]


def test_a_refused_probe_leaves_no_folder_and_keeps_one(clips, model, tmp_path):
    def refused(out: Path) -> None:
        with pytest.raises(ValueError, match="is not an encoder|no encoder|head on features"):
            probe("demo-actionformer", clips / "train.csv", LINEAR, out, validation=clips / "val.csv", **HERE)

    refused(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    refused(tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("content", ["[]", '{"a": 1}', "3", "{"])
def test_a_file_that_holds_no_trained_probes_is_refused(clips, model, tmp_path, content):
    (tmp_path / "fits.json").write_text(content)
    with pytest.raises(ValueError, match=r"fits\.json is no.*Delete it\."):
        probe(model, clips / "train.csv", LINEAR, tmp_path, validation=clips / "val.csv", seeds=1, **HERE)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 0, 0, 1], r"'b' has 1 to train on\. Take"),
        ([0, 0, 1], r"'b' has 1 to train on, and 1 other class has too few\. Take"),
        ([0, 1, 2], r"'a' has 1 to train on, and 2 other classes have too few\. Take"),
    ],
)
def test_classes_of_too_few_clips_are_counted(labels, words):
    rows = [{"video": f"{n}.mp4"} for n in range(len(labels))]
    with pytest.raises(ValueError, match=words):
        check_shots(Clips(rows, np.array(labels)), (3,), "abc"[: max(labels) + 1], np.ones(len(labels), dtype=bool))


def test_draws_are_the_same_whatever_the_order_of_the_list():
    clips, there = made(30, 3), np.ones(30, dtype=bool)
    one, five = draw(clips, 1, 0, there), draw(clips, 5, 0, there)
    assert np.bincount(clips.labels[five]).tolist() == [5, 5, 5]
    assert set(one) < set(five)
    assert set(draw(clips, 5, 1, there)) != set(five)
    order = np.random.default_rng(5).permutation(30)
    turned = clips.part(order)
    assert sorted(turned.names[place] for place in draw(turned, 5, 0, there)) == sorted(
        clips.names[place] for place in five
    )
    there[five[0]] = False
    assert five[0] not in draw(clips, 5, 0, there)
    assert len(draw(clips, ALL, 0, there)) == 29


def test_a_part_of_each_class_is_kept_for_the_test():
    train, test = split_test(made(30, 3))
    assert np.bincount(test.labels).tolist() == [3, 3, 3]
    assert not set(train.names) & set(test.names)
    assert len(train.rows) + len(test.rows) == 30
    with pytest.raises(ValueError, match=r"the only clip of its class.*--validation\.$"):
        split_test(made(3, 3))


def test_a_header_of_other_names_is_suspected(tmp_path):
    (tmp_path / "list.csv").write_text("foo,bar\na.mp4,red\nb.mp4,red\n")
    with pytest.raises(
        ValueError, match=r"foo is the only clip of its class.*header, name its columns video, label\."
    ):
        split_test(read_clips(tmp_path / "list.csv", None))


def test_wrong_lists_are_refused(clips, model, tmp_path):
    def refused(source: str, words: str, **options):
        with pytest.raises(ValueError, match=words):
            probe(model, clips / source, LINEAR, tmp_path / "out", **HERE | options)

    (clips / "one.csv").write_text("video,label\nred/0.mp4,red\nred/1.mp4,red\n")
    refused("one.csv", "All clips are of one class, 'red'")
    (clips / "two.csv").write_text("video,label\nred/0.mp4,red\nred/0.mp4,blue\n")
    refused("two.csv", "has two labels, 'red' and 'blue'")
    (clips / "other.csv").write_text("video,label\nred/0.mp4,violet\n")
    refused("train.csv", "class 'violet' has no training clips", validation=clips / "other.csv")
    refused("train.csv", r"train.csv and in .*train.csv. Test on clips", validation=clips / "train.csv")
    (clips / "none.csv").write_text("video\nred/0.mp4\n")
    refused("none.csv", "have no label|without a label")
    refused("train.csv", r"seeds=0", seeds=0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (99, 1.984)]
)
def test_quantiles_of_student_are_those_of_the_tables(freedom, expected):
    assert probing.t_quantile(freedom) == pytest.approx(expected, abs=6e-4)


def test_the_interval_is_that_of_the_mean():
    # Mean 80, standard deviation 10, of four: 3.182 * 10 / 2.
    about = {"chosen": 1, "held_out": 0, "clips": 1}
    values = [70.0, 75.0, 85.0, 90.0]
    found = probing._summary([{"scores": {"top-1": value}, **about} for value in values])
    assert found["top-1"]["confidence"] == pytest.approx(3.1824 * np.std(values, ddof=1) / 2, rel=1e-3)
    assert probing._summary([{"scores": {"top-1": 70.0}, **about}])["top-1"]["confidence"] is None
