"""`zero-shot`, `classify`, `extract` and `reconstruct`: outputs and exit codes."""

import json
import shutil

import pytest
from PIL import Image, ImageChops
from program import assert_refused, run
from safetensors.torch import load_file

from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.inference import runner

LABELS = "riding a bike, cooking pasta, playing chess"


def test_zero_shot_answers_what_it_can_and_lists_the_rest_last(mm_folder, bikes, tmp_path):
    damaged = tmp_path / "damaged.mp4"
    damaged.write_text("no video")
    result = run("zero-shot", bikes, damaged, tmp_path / "missing.mp4", "--model", mm_folder, "--labels", LABELS)
    assert result.returncode == 1
    assert str(bikes) in result.stdout and "cooking pasta" in result.stdout
    report = result.stderr.split(" failed:")[1]
    assert str(damaged) in report and "missing.mp4" in report
    assert "Classifying" in result.stderr
    assert "Traceback" not in result.stderr


def test_zero_shot_speaks_json_and_keeps_quiet(mm_folder, bikes, tmp_path):
    (tmp_path / "labels.txt").write_text("riding a bike\n\nbread, butter\n")
    labels = ("--labels-file", tmp_path / "labels.txt")
    result = run("zero-shot", bikes, bikes, "--model", mm_folder, *labels, "--json", "--quiet", "--top-k", 1)
    assert (result.returncode, result.stderr) == (0, "")
    answers = json.loads(result.stdout)
    assert [answer["video"] for answer in answers] == [str(bikes)] * 2
    assert answers[0]["results"] == answers[1]["results"] and len(answers[0]["results"]) == 1
    assert answers[0]["results"][0]["label"] in ("riding a bike", "bread, butter")


def test_zero_shot_options_change_the_question(mm_folder, bikes):
    def ask(*options):
        result = run("zero-shot", bikes, "--model", mm_folder, "--labels", LABELS, "--json", "-q", *options)
        assert result.returncode == 0, result.stderr
        return {answer["label"]: answer["score"] for answer in json.loads(result.stdout)[0]["results"]}

    plain = ask()
    assert ask("--template", "A video of {}.") == plain
    assert ask("--prompts", "kinetics") != plain
    assert ask("--num-clips", 3) != plain


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--labels", LABELS, "--model", "no-such-folder"), ("no-such-folder", "internvideo convert")),
        (("--model", "{mm_folder}"), ("--labels",)),
        (("--model", "{mm_folder}", "--labels", "a", "--labels-file", "b"), ("one of the two",)),
        (("--model", "{mm_folder}", "--labels-file", "missing.txt"), ("missing.txt",)),
        (("--model", "{mm_folder}", "--labels", "missing.txt"), ("missing.txt",)),
        (("--model", "{mm_folder}", "--labels", " , "), ("at least one label",)),
        (("--model", "{mm_folder}", "--labels", "a,a"), ("twice",)),
        (("--model", "{mm_folder}", "--labels", LABELS, "--prompts", "none"), ("kinetics",)),
        (("--model", "{mm_folder}", "--labels", LABELS, "--template", "nothing"), ("nothing",)),
        (("--model", "{mm_folder}", "--labels", LABELS, "--top-k", "0"), ("top-k",)),
        (("--model", "{mm_folder}", "--labels", LABELS, "--device", "warp"), ("warp",)),
        (("--labels", LABELS), ("--model",)),
        (("--nonsense",), ("--nonsense",)),
    ],
)
def test_zero_shot_refuses_a_mistake_in_one_line(mm_folder, bikes, arguments, words):
    filled = [argument.format(mm_folder=mm_folder) for argument in arguments]
    assert_refused(run("zero-shot", bikes, *filled), *words)


def test_zero_shot_with_nothing_but_bad_files_is_refused(mm_folder, tmp_path):
    (tmp_path / "empty.mp4").touch()
    result = run("zero-shot", tmp_path / "empty.mp4", "--model", mm_folder, "--labels", LABELS)
    assert_refused(result, "empty.mp4")


def test_zero_shot_refuses_a_model_without_text(mae_folder, bikes):
    refused = run("zero-shot", bikes, "--model", mae_folder, "--labels", LABELS)
    assert_refused(refused, f"{mae_folder} is not a model of video and text: it holds an InternVideoMAEForVideo")
    assert_refused(refused, f"`internvideo classify VIDEO --model {mae_folder}`")


def test_zero_shot_answers_by_viclip(viclip_folder, bikes):
    result = run("zero-shot", bikes, "--model", viclip_folder, "--labels", LABELS, "--prompts", "viclip", "--json")
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)[0]["results"]) == 3


def test_classify_names_classes_and_lists_what_it_cannot_read(mae_folder, bikes, tmp_path):
    (tmp_path / "empty.mp4").touch()
    result = run("classify", bikes, tmp_path / "empty.mp4", "--model", mae_folder, "--views", "2x3", "--top-k", 2)
    assert result.returncode == 1
    assert len(result.stdout.splitlines()) == 3 and str(bikes) in result.stdout
    assert "empty.mp4" in result.stderr.split(" failed:")[1]
    answers = json.loads(run("classify", bikes, "--model", mae_folder, "--json", "-q").stdout)
    assert len(answers[0]["results"]) == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--views", "five"), ("5x3",)),
        (("--views", "0x3"), ("5x3",)),
        (("--views", "99999999x3"), ("at most 10000",)),
        (("--merge", "vote"), ("prob", "score")),
        (("--top-k", "0"), ("top-k",)),
    ],
)
def test_classify_refuses_a_mistake(mae_folder, bikes, options, words):
    assert_refused(run("classify", bikes, "--model", mae_folder, *options), *words)


def test_classify_refuses_a_model_that_is_no_classifier(mm_folder, bikes):
    assert_refused(run("classify", bikes, "--model", mm_folder), "InternVideoMM")


def test_classify_writes_estimates_as_numbers(bikes, tmp_path):
    shutil.copytree(demo_path("demo-classifier"), tmp_path / "numbers")
    config = json.loads((tmp_path / "numbers/config.json").read_text()) | {"problem_type": "regression"}
    (tmp_path / "numbers/config.json").write_text(json.dumps(config))
    options = (bikes, "--model", tmp_path / "numbers", "-q", "--top-k", 2)
    found = json.loads(run("classify", *options, "--json").stdout)[0]["results"]
    lines = run("classify", *options).stdout.splitlines()[1:]
    assert [line.split() for line in lines] == [[f"{row['score']:.4g}", *row["label"].split()] for row in found]


def test_classify_says_unknown_and_writes_a_table(mae_folder, bikes, tmp_path):
    (tmp_path / "empty.mp4").touch()
    labels = [f"{bikes},{name}\n" for name in ("abseiling", "air drumming")]
    (tmp_path / "two.csv").write_text(f"video,label,start,end\n{labels[0].strip()},0,2\n{labels[1].strip()},2,4\n")
    fitted = run("calibrate", mae_folder, tmp_path / "two.csv", "--out", tmp_path / "scorer", "--workers", 0, "-q")
    assert fitted.returncode == 0, fitted.stderr
    options = ("--model", mae_folder, "--open-set", tmp_path / "scorer", "--top-k", 1)
    done = run("classify", bikes, tmp_path / "empty.mp4", *options, "--csv", tmp_path / "tables/answers.csv")
    assert done.returncode == 1 and "of the known videos are better known (uncertainty" in done.stdout, done.stderr
    lines = (tmp_path / "tables/answers.csv").read_text().splitlines()
    assert lines[0] == "video,rank,label,score,uncertainty,threshold,error" and len(lines) == 4
    assert any(",unknown," in line for line in lines[1:3]) and lines[3].startswith(f"{tmp_path}/empty.mp4,1,,,,,")
    answers = json.loads(run("classify", bikes, *options, "--json", "-q").stdout)[0]["results"]
    assert [answer for answer in answers if answer["label"] == "unknown"][0].keys() > {"uncertainty", "threshold"}
    assert_refused(run("classify", bikes, *options, "--views", "2x3"), "was fitted on", "got 2x3")
    refused = run("classify", bikes, "--model", mae_folder, "--open-set", tmp_path)
    assert_refused(refused, "holds no open-set scorer", "internvideo calibrate MODEL")
    assert_refused(run("classify", bikes, *options, "--csv", tmp_path), "is a folder")


def test_extract_goes_on_after_a_damaged_file_and_does_nothing_twice(mae_folder, bikes, tmp_path):
    (tmp_path / "empty.mp4").touch()
    out = tmp_path / "features"
    options = ("--model", mae_folder, "--out", out, "--stride", 64, "--npy")
    result = run("extract", tmp_path / "empty.mp4", bikes, *options)
    assert result.returncode == 1
    assert "empty.mp4" in result.stderr.split(" failed:")[1]
    files = {f"bikes.mp4{end}" for end in (".json", ".npy", ".safetensors")}
    assert {path.name for path in out.iterdir()} == {*files, "failures.jsonl"}
    again = run("extract", bikes, *options)
    assert again.returncode == 0 and "already existed" in again.stdout
    assert_refused(run("extract", bikes, "--model", mae_folder, "--out", out, "--stride", 32), "other settings")
    assert run("extract", bikes, bikes, *options, "-q").returncode == 0, "the same video twice is one video"
    assert_refused(run("extract", bikes, "--model", mae_folder, "--out", out / "bikes.mp4.json"), "name of a folder")
    assert_refused(run("extract", bikes, "--model", mae_folder, "--out", out, "--window", 7), "multiple of 2")


def test_folders_and_lists_stand_for_their_videos(drawn, tmp_path):
    """Two clips of one name in two folders, and a list in which each has a name for a label."""
    for name, clip in zip(("run", "walk"), sorted((drawn[0] / "test").glob("*.mp4"))[:2], strict=True):
        (tmp_path / "clips" / name).mkdir(parents=True)
        (tmp_path / "clips" / name / "1.mp4").symlink_to(clip)
    (tmp_path / "list.csv").write_text("clips/run/1.mp4;run\nclips/walk/1.mp4;walk\n")
    videos = [f"{tmp_path}/clips/{name}/1.mp4" for name in ("run", "walk")]
    for source in ("clips", "list.csv"):
        answers = json.loads(run("classify", tmp_path / source, "--model", "demo-classifier", "--json", "-q").stdout)
        assert [answer["video"] for answer in answers] == videos and len(answers[0]["results"]) == 5
    labels = ("--labels", "a cross grows, a cross shrinks", "--json", "-q")
    answers = json.loads(run("zero-shot", tmp_path / "clips", "--model", "demo-mm", *labels).stdout)
    assert [answer["video"] for answer in answers] == videos
    done = run("extract", tmp_path / "clips", "--model", "demo-classifier", "--out", tmp_path / "out", "-q")
    assert done.returncode == 0, done.stderr
    assert {file.relative_to(tmp_path / "out").as_posix() for file in tmp_path.glob("out/**/*.safetensors")} == {
        "run/1.mp4.safetensors",
        "walk/1.mp4.safetensors",
    }
    done = run("extract", *videos, "--model", "demo-classifier", "--out", tmp_path / "out")
    assert done.returncode == 0 and done.stdout.count("already existed") == 2, "equal names begin at their folders"


def test_extract_names_the_setting_that_differs_and_replaces_features_if_asked_to(drawn, tmp_path):
    clip, out = drawn[0] / "test/00000.mp4", tmp_path / "out"
    call = ("extract", clip, "--out", out, "--window", 8, "-q", "--model")
    assert run(*call, "demo-mm", "--stride", 4, "--npy").returncode == 0
    refused = run(*call, "demo-mm", "--stride", 8, "--dtype", "bfloat16")
    assert_refused(refused, "other settings (dtype auto, now bfloat16; stride 4, now 8)", "--overwrite", "--out")
    refused = run(*call, "demo-classifier", "--stride", 4)
    assert_refused(refused, "(model ", "demo-mm (sha256:", ", now ", "demo-classifier (sha256:")
    assert run(*call, "demo-mm", "--stride", 8, "--dtype", "bfloat16", "--overwrite").returncode == 0
    facts = json.loads((out / "00000.mp4.json").read_text())
    assert (facts["stride"], facts["dtype"]) == (8, "bfloat16")
    assert len(load_file(out / "00000.mp4.safetensors")["features"]) == facts["rows"]
    assert {file.suffix for file in out.iterdir()} == {".json", ".safetensors"}, "no .npy of other settings stays"
    again = run("extract", clip, "--out", out, "--window", 8, "--model", "demo-mm", "--stride", 8, "--overwrite",
                "--dtype", "bfloat16")  # fmt: skip
    assert "already existed" in again.stdout, "what is equal is not made again"


def scores(*options) -> list[dict[str, float]]:
    done = run(*options, "--json", "-q", "--top-k", 3)
    assert done.returncode == 0, done.stderr
    return [{entry["label"]: entry["score"] for entry in answer["results"]} for answer in json.loads(done.stdout)]


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(("classify", "--model", "demo-classifier", "--views", "3x1"), marks=pytest.mark.slow),
        ("zero-shot", "--model", "demo-mm", "--labels", "a cross, a heart, a star", "--num-clips", 3),
    ],
    ids=lambda call: call[0],
)
def test_batches_change_nothing_and_number_types_change_digits(call, drawn, monkeypatch):
    (expected,) = scores(*call, drawn[0] / "test/00000.mp4")
    seen = []
    load = runner.load_model
    monkeypatch.setattr(runner, "load_model", lambda *args: seen.append(watched(load(*args))) or seen[-1][0])
    (small,) = scores(*call, drawn[0] / "test/00000.mp4", "--batch-size", 2)
    assert small == pytest.approx(expected, abs=1e-6) and seen[0][1] == [(2, "float32"), (1, "float32")]
    (rough,) = scores(*call, drawn[0] / "test/00000.mp4", "--dtype", "bfloat16")
    assert rough != expected and rough == pytest.approx(expected, abs=0.05) and seen[1][1] == [(3, "bfloat16")]


def watched(model):
    """Return a model and a list of the views and the number type of each of its forward passes."""
    batches = []
    embed = "get_video_features" if hasattr(model, "get_video_features") else "forward"
    whole = getattr(model, embed)

    def watch(pixel_values_videos):
        batches.append((len(pixel_values_videos), str(pixel_values_videos.dtype).removeprefix("torch.")))
        return whole(pixel_values_videos=pixel_values_videos)

    setattr(model, embed, watch)
    return model, batches


@pytest.mark.parametrize("command", ["zero-shot", "classify", "extract", "reconstruct"])
@pytest.mark.parametrize(
    ("option", "words"),
    [
        (
            ("--dtype", "float61"),
            ("--dtype: got 'float61', expected one of saved, auto, float32", "Did you mean float16?"),
        ),
        (("--batch-size", "0"), ("Invalid value for '--batch-size'", "1")),
        (("--batch-size", "-3"), ("Invalid value for '--batch-size'", "1")),
    ],
)
def test_a_number_type_or_batch_that_cannot_be_is_refused_before_the_work(command, option, words):
    more = {"zero-shot": ("--labels", "a"), "extract": ("--out", "x"), "reconstruct": ("--out", "x.png")}
    assert_refused(run(command, "no.mp4", "--model", "nowhere", *more.get(command, ()), *option), *words)


def test_reconstruct_draws_a_folder_and_names_equal_files_apart(mae_pretrained_folder, bikes, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.mp4").symlink_to(bikes)
    (tmp_path / "b/bad.mp4").write_text("no video")
    call = ("reconstruct", tmp_path / "a/x.mp4", tmp_path / "b", "--model", mae_pretrained_folder, "--out")
    assert_refused(run(*call, tmp_path / "x.png"), "x.png is one image, and there are 3 videos")
    done = run(*call, tmp_path / "grids", "--batch-size", 2)
    assert done.returncode == 1 and "bad.mp4" in done.stderr.split("1 of 3 failed:")[1]
    grids = {file.relative_to(tmp_path / "grids").as_posix(): file for file in tmp_path.glob("grids/**/*.png")}
    assert set(grids) == {"a/x.mp4.png", "b/x.mp4.png"}
    assert run("reconstruct", bikes, "--model", mae_pretrained_folder, "--out", tmp_path / "one.png").returncode == 0
    one, two = Image.open(tmp_path / "one.png"), Image.open(grids["b/x.mp4.png"])
    assert ImageChops.difference(one, two).getextrema() == ((0, 0),) * 3


def test_reconstruct_draws_a_picture(mae_pretrained_folder, mae_folder, bikes, tmp_path):
    result = run("reconstruct", bikes, "--model", mae_pretrained_folder, "--out", tmp_path / "grid.png")
    assert result.returncode == 0 and (tmp_path / "grid.png").stat().st_size > 1000
    assert_refused(run("reconstruct", bikes, "--model", mae_folder, "--out", tmp_path / "x.png"), "no decoder")
    assert_refused(run("reconstruct", bikes, "--model", mae_pretrained_folder, "--out", tmp_path / "x.txt"), ".png")
    assert_refused(
        run("reconstruct", "no.mp4", "--model", mae_pretrained_folder, "--out", tmp_path / "x.png"), "no.mp4"
    )
