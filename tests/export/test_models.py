"""Whole exports of the bundled models and of small ones of each family, in the place of the models."""

import json

import pytest
import torch
from program import run
from safetensors.torch import load_file

from internvideo_hf import InternVideoVideoProcessor, UniFormerConfig, UniFormerForVideoClassification
from internvideo_hf.demo.synthetic import canonical_caption, clip_at, write_clip

pytestmark = pytest.mark.slow
FORMATS = ("onnx", "openvino")


@pytest.fixture(autouse=True)
def _extra():
    pytest.importorskip("onnxscript", reason="needs the extra export")


def export(model, out, form="onnx", *options):
    if form == "openvino":
        pytest.importorskip("nncf", reason="needs the extra openvino")
    done = run("export", model, out, "--format", form, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Return a folder with lists of drawn clips: 100 to calibrate on, 240 to test on."""
    folder = tmp_path_factory.mktemp("shapes")
    for split, count in (("train", 100), ("test", 240)):
        (folder / split).mkdir()
        clips = [clip_at(split, number) for number in range(count)]
        for clip in clips:
            write_clip(clip, folder / clip.video)
        rows = [{"video": clip.video, "label": clip.label, "caption": canonical_caption(clip)} for clip in clips]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("model", ["demo-classifier", "demo-mm"])
def test_int8_costs_half_a_point_at_most(model, form, shapes, tmp_path):
    lists = ("--calibrate", shapes / "train.jsonl", "--evaluate", shapes / "test.jsonl")
    export(model, tmp_path / "out", form, "--dtype", "int8", *lists)
    content = json.loads((tmp_path / "out/export.json").read_text())
    names = {"top-1"} if model == "demo-classifier" else {"text to video R@1", "video to text R@1"}
    assert content["scores"].keys() == names and content["calibration"] == {"clips": 100}
    for score in content["scores"].values():
        assert score["videos"] == 240 and score["before"] > 80
        assert score["after"] > score["before"] - 0.5
    assert all(found["cosine"] > 0.99 for found in content["agreement"].values())


@pytest.mark.parametrize("form", FORMATS)
def test_captions_are_those_of_torch(form, shapes, tmp_path):
    export("demo-captioner", tmp_path / "out", form)
    clips = [shapes / f"test/{number:05}.mp4" for number in range(4)]
    for beams in (1, 3):
        ours, theirs = (
            run("caption", *clips, "--model", model, "--beams", beams, "--device", "cpu", "-q")
            for model in (tmp_path / "out", "demo-captioner")
        )
        assert ours.returncode == 0 and ours.stdout == theirs.stdout, ours.stderr


@pytest.mark.parametrize("form", FORMATS)
def test_actions_are_those_of_torch(form, bikes, tmp_path):
    export("demo-actionformer", tmp_path / "out", form)
    answers = []
    for model in (tmp_path / "out", "demo-actionformer"):
        done = run("localize", bikes, "--model", model, "--json", "--top-k", 5, "--device", "cpu", "-q")
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    (ours,), (theirs,) = answers
    for one, other in zip(ours["segments"], theirs["segments"], strict=True):
        assert one["label"] == other["label"]
        assert [one[name] for name in ("score", "start", "end")] == pytest.approx(
            [other[name] for name in ("score", "start", "end")], abs=1e-3
        )


@pytest.fixture
def uniformer(tmp_path):
    torch.manual_seed(0)
    config = UniFormerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 16, 16], head_dim=8, num_frames=8, image_size=64, num_labels=3
    )
    UniFormerForVideoClassification(config).save_pretrained(tmp_path / "uniformer")
    sizes = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
    InternVideoVideoProcessor(num_frames=8, **sizes).save_pretrained(tmp_path / "uniformer")
    return tmp_path / "uniformer"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("family", ["demo-classifier", "mae_folder", "viclip_folder", "small_folder", "uniformer"])
def test_commands_take_the_export_of_each_family(family, form, request, bikes, tmp_path):
    model = family if family.startswith("demo-") else request.getfixturevalue(family)
    out = tmp_path / "out"
    export(model, out, form)
    is_dual = family in ("viclip_folder", "small_folder")
    tables = []
    for name, folder in (("ours", out), ("theirs", model)):
        if is_dual:
            labels = ("--labels", "a bike, rain, a dog", "--template", "{}")
            answer = run("zero-shot", bikes, "--model", folder, *labels, "--json", "--device", "cpu", "-q")
        else:
            answer = run("classify", bikes, "--model", folder, "--views", "1x1", "--json", "--device", "cpu", "-q")
        assert answer.returncode == 0, answer.stderr
        tables.append(answer.stdout)
        index = tmp_path / f"{name}.index"
        made = run("index", bikes, "--model", folder, "--out", index, "--window", 4, "--device", "cpu", "-q")
        assert made.returncode == 0, made.stderr
    ours, theirs = (_scores(json.loads(table)) for table in tables)
    assert ours.keys() == theirs.keys() and ours == pytest.approx(theirs, abs=1e-4)
    query = ("a bike",) if is_dual else ("--video", bikes)
    for other, index in ((out, "theirs"), (model, "ours")):
        found = run("search", tmp_path / f"{index}.index", *query, "--model", other, "--device", "cpu")
        assert found.returncode == 0, found.stderr
    window = json.loads((out / "export.json").read_text())["functions"]["video"]["inputs"]["pixel_values_videos"]
    frames = window["shape"][1]
    found = []
    for name, folder in (("ours", out), ("theirs", model)):
        features = tmp_path / name
        # Some take any number of frames: another than that of the export.
        windows = ("--window", 6 if isinstance(frames, str) else frames, "--stride", 200)
        done = run("extract", bikes, "--model", folder, *windows, "--out", features, "--device", "cpu", "-q")
        assert done.returncode == 0, done.stderr
        found.append(load_file(next(features.glob("*.safetensors")))["features"])
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


def _scores(content):
    """Return the scores of one video's answers by label."""
    found = {}

    def collect(value):
        if isinstance(value, dict) and {"label", "score"} <= value.keys():
            found[value["label"]] = value["score"]
        elif isinstance(value, dict):
            [collect(entry) for entry in value.values()]
        elif isinstance(value, list):
            [collect(entry) for entry in value]

    collect(content)
    assert found
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_pt2_is_written_for_other_programs(dtype, mae_folder, tmp_path):
    export(mae_folder, tmp_path / "out", "pt2", "--dtype", dtype, "--frames", 4, "--size", 32)
    program = torch.export.load(tmp_path / "out/video.pt2").module()
    with torch.no_grad():
        logits = program(torch.rand(5, 4, 3, 32, 32))[0]
    assert logits.shape == (5, 400) and logits.dtype == torch.float32
