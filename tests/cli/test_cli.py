"""The program: what it prints, what it writes, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from program import run
from video.clips import write_video

LABELS = "riding a bike, cooking pasta, playing chess"


def assert_refused(result: subprocess.CompletedProcess, *words: str) -> None:
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def test_help_imports_no_torch():
    code = (
        "import sys\n"
        "sys.argv = ['internvideo', '--help']\n"
        "from internvideo_hf.cli import main\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert done.code == 0, done.code\n"
        "heavy = {'torch', 'transformers', 'numpy', 'av'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    for command in ("convert", "zero-shot", "doctor"):
        assert command in result.stdout


def test_the_installed_program_is_the_same_one():
    program = Path(sys.executable).with_name("internvideo")
    installed = subprocess.run([program, "convert", "--help"], capture_output=True, text=True, timeout=60)
    assert installed.returncode == 0
    module = subprocess.run(
        [sys.executable, "-m", "internvideo_hf.cli", "convert", "--help"], capture_output=True, text=True, timeout=60
    )
    assert installed.stdout.split("Options:")[1] == module.stdout.split("Options:")[1]


def test_a_mistake_ends_the_process_with_2_and_no_traceback(tmp_path):
    command = [sys.executable, "-m", "internvideo_hf.cli", "convert", tmp_path / "none.ckpt", tmp_path / "out"]
    assert_refused(subprocess.run(command, capture_output=True, text=True, timeout=120), "none.ckpt", "does not exist")


def test_convert_writes_a_folder_and_names_what_it_left_out(random_checkpoint, tmp_path):
    content = torch.load(random_checkpoint, weights_only=True)
    content["state_dict"]["caption_decoder.text_norm.weight"] = torch.ones(4)
    torch.save(content, tmp_path / "with-decoder.ckpt")
    result = run("convert", tmp_path / "with-decoder.ckpt", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "caption_decoder.text_norm.weight" in result.stdout
    assert {"config.json", "model.safetensors", "README.md"} <= {path.name for path in (tmp_path / "out").iterdir()}
    quiet = run("convert", tmp_path / "with-decoder.ckpt", tmp_path / "out", "--overwrite", "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_convert_refuses_and_leaves_nothing_behind(random_checkpoint, tmp_path):
    whole = random_checkpoint.read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "typo.json").write_text('{"vision_config": {"num_attention_head": 1}}')
    (tmp_path / "misfit.json").write_text('{"vision_config": {"num_attention_heads": 3}}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    before = sorted(tmp_path.iterdir())
    refusals = [
        ((tmp_path / "cut.ckpt", tmp_path / "out"), "cut.ckpt"),
        ((tmp_path / "missing.ckpt", tmp_path / "out"), "does not exist"),
        ((random_checkpoint, tmp_path / "full"), "--overwrite"),
        ((random_checkpoint, tmp_path / "out", "--config", tmp_path / "typo.json"), "num_attention_heads"),
        ((random_checkpoint, tmp_path / "out", "--config", tmp_path / "misfit.json"), "must divide"),
        ((random_checkpoint, tmp_path / "out", "--config", tmp_path / "broken.json"), "broken.json"),
        ((random_checkpoint, tmp_path / "out", "--config", tmp_path / "none.json"), "none.json"),
        ((random_checkpoint, tmp_path / "out", "--dtype", "int8"), "float32"),
    ]
    for arguments, word in refusals:
        assert_refused(run("convert", *arguments), word)
    assert sorted(tmp_path.iterdir()) == before


def test_no_code_of_a_checkpoint_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "was-here"), "w"))

    torch.save({"state_dict": {"clip.visual_proj": torch.ones(1)}, "callbacks": Evil()}, tmp_path / "evil.ckpt")
    assert_refused(run("convert", tmp_path / "evil.ckpt", tmp_path / "out"), "open", "--trust-pickle")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.ckpt"]


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


def test_a_folder_that_holds_no_model_is_refused(bikes, tmp_path):
    assert_refused(run("zero-shot", bikes, "--model", tmp_path, "--labels", LABELS), str(tmp_path))


def test_zero_shot_refuses_a_model_without_text(mae_folder, bikes):
    refused = run("zero-shot", bikes, "--model", mae_folder, "--labels", LABELS)
    assert_refused(refused, "InternVideoMAEModel has no get_video_features")


def test_doctor_finds_this_machine_fit():
    result = run("doctor")
    assert result.returncode == 0, result.stdout + result.stderr
    lines = {line.split("  ")[0]: line for line in result.stdout.splitlines()}
    for name in ("Python", "torch", "torchvision", "transformers", "decoder pyav", "attention sdpa"):
        assert " works " in lines[name]
    assert {"decoder torchcodec", "decoder decord", "extra [deepspeed] deepspeed"} <= set(lines)


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
        (("--merge", "vote"), ("prob", "score")),
        (("--top-k", "0"), ("top-k",)),
    ],
)
def test_classify_refuses_a_mistake(mae_folder, bikes, options, words):
    assert_refused(run("classify", bikes, "--model", mae_folder, *options), *words)


def test_classify_refuses_a_model_that_is_no_classifier(mm_folder, bikes):
    assert_refused(run("classify", bikes, "--model", mm_folder), "InternVideoMM")


def test_classify_tells_a_pretrained_model_and_a_folder_of_transformers_own(
    mae_folder, mae_pretrained_folder, bikes, tmp_path
):
    wanted = ("holds a InternVideoMAEForPreTraining", "InternVideoMAEForVideoClassification")
    assert_refused(run("classify", bikes, "--model", mae_pretrained_folder), *wanted)
    checkpoint, stock = mae_folder.with_name("classifier.pth"), tmp_path / "stock"
    assert run("convert", checkpoint, stock, "--to", "transformers-videomae").returncode == 0
    for command in (
        ["classify"],
        ["extract", "--out", tmp_path / "out"],
        ["reconstruct", "--out", tmp_path / "x.png"],
    ):
        assert_refused(run(*command, bikes, "--model", stock), "'videomae'", "transformers' own pipelines")


def test_extract_goes_on_after_a_damaged_file_and_does_nothing_twice(mae_folder, bikes, tmp_path):
    (tmp_path / "empty.mp4").touch()
    out = tmp_path / "features"
    options = ("--model", mae_folder, "--out", out, "--stride", 64, "--npy")
    result = run("extract", tmp_path / "empty.mp4", bikes, *options)
    assert result.returncode == 1
    assert "empty.mp4" in result.stderr.split(" failed:")[1]
    assert {path.name for path in out.iterdir()} == {f"bikes.mp4{end}" for end in (".json", ".npy", ".safetensors")}
    again = run("extract", bikes, *options)
    assert again.returncode == 0 and "was there already" in again.stdout
    assert_refused(run("extract", bikes, "--model", mae_folder, "--out", out, "--stride", 32), "other settings")
    assert_refused(run("extract", bikes, bikes, *options), "bikes.mp4", "different folders")
    assert_refused(run("extract", bikes, "--model", mae_folder, "--out", out / "bikes.mp4.json"), "name of a folder")
    assert_refused(run("extract", bikes, "--model", mae_folder, "--out", out, "--window", 7), "multiple of 2")


def test_reconstruct_draws_a_picture(mae_pretrained_folder, mae_folder, bikes, tmp_path):
    result = run("reconstruct", bikes, "--model", mae_pretrained_folder, "--out", tmp_path / "grid.png")
    assert result.returncode == 0 and (tmp_path / "grid.png").stat().st_size > 1000
    assert_refused(run("reconstruct", bikes, "--model", mae_folder, "--out", tmp_path / "x.png"), "no decoder")
    assert_refused(run("reconstruct", bikes, "--model", mae_pretrained_folder, "--out", tmp_path / "x.txt"), ".png")
    assert_refused(
        run("reconstruct", "no.mp4", "--model", mae_pretrained_folder, "--out", tmp_path / "x.png"), "no.mp4"
    )


def test_convert_says_whose_classes_a_head_has(mae_folder, tmp_path):
    checkpoint = mae_folder.with_name("classifier.pth")
    told = run("convert", checkpoint, tmp_path / "k400")
    assert told.returncode == 0 and "classes are those of k400" in told.stdout
    assert_refused(run("convert", checkpoint, tmp_path / "ssv2", "--head", "ssv2"), "400", "174")
    assert_refused(run("convert", checkpoint, tmp_path / "x", "--head", "k401"), "k400")
    stock = run("convert", checkpoint, tmp_path / "stock", "--to", "transformers-videomae")
    assert stock.returncode == 0, stock.stderr
    assert json.loads((tmp_path / "stock/config.json").read_text())["model_type"] == "videomae"
    assert_refused(run("convert", checkpoint, tmp_path / "x", "--to", "onnx"), "transformers-videomae")


def test_merge_averages_two_folders_and_refuses_what_is_none(viclip_folder, tmp_path):
    result = run("merge", viclip_folder, viclip_folder, "--weight", "0.5", "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "average of 78 tensors" in result.stdout
    assert (tmp_path / "out/preprocessor_config.json").is_file() or (tmp_path / "out/processor_config.json").is_file()
    assert_refused(run("merge", viclip_folder, tmp_path, "--out", tmp_path / "other"), "config.json")
    assert_refused(run("merge", viclip_folder, viclip_folder, "--out", tmp_path / "out"), "--overwrite")


def test_convert_saves_the_processor_that_is_asked_for(viclip_folder, tmp_path):
    source = viclip_folder.with_name("random.pth")
    result = run("convert", source, tmp_path / "out", "--processor", "demo")
    assert result.returncode == 0, result.stderr
    assert "viclip_stride" in "".join(path.read_text() for path in (tmp_path / "out").glob("*.json"))
    assert_refused(run("convert", source, tmp_path / "none", "--processor", "demos"), "training, demo")


def test_zero_shot_answers_by_viclip(viclip_folder, bikes):
    result = run("zero-shot", bikes, "--model", viclip_folder, "--labels", LABELS, "--prompts", "viclip", "--json")
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)[0]["results"]) == 3


def test_scan_lists_bad_files_last_and_writes_them(tmp_path):
    write_video(tmp_path / "good.mp4", 8)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "list.csv").write_text("good.mp4,0\nempty.mp4,1\nnone.mp4,2\n")
    result = run("scan", tmp_path / "list.csv", "--jobs", 1, "--out", tmp_path / "bad.json")
    assert result.returncode == 1 and "1 of 3 videos can be read" in result.stdout
    assert "empty.mp4" in result.stderr.split("2 of 3 failed:")[1]
    assert [bad["video"] for bad in json.loads((tmp_path / "bad.json").read_text())["bad"]] == [
        str(tmp_path / name) for name in ("empty.mp4", "none.mp4")
    ]
    quiet = run("scan", tmp_path / "good.mp4", "--whole", "-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    assert_refused(run("scan", tmp_path / "none.mp4"), "none.mp4")
    (tmp_path / "list.csv").write_text("good.mp4,0\n\n")
    assert_refused(run("scan", tmp_path / "list.csv"), "line 2", "empty")
    assert_refused(run("scan", tmp_path / "list.csv", "--data-root", tmp_path / "nowhere"), "nowhere")


def test_shrink_keeps_paths_and_does_nothing_twice(tmp_path):
    (tmp_path / "in/deep").mkdir(parents=True)
    write_video(tmp_path / "in/a.avi", 8)
    write_video(tmp_path / "in/deep/b.mp4", 8)
    (tmp_path / "in/bad.mp4").touch()
    options = ("--out", tmp_path / "out", "--short-side", 32, "--keyframe-interval", 4)
    result = run("shrink", tmp_path / "in", *options, "--jobs", 1)
    assert result.returncode == 1 and "Wrote 2 videos" in result.stdout
    assert "bad.mp4" in result.stderr.split("1 of 3 failed:")[1]
    assert (tmp_path / "out/a.mp4").is_file() and (tmp_path / "out/deep/b.mp4").is_file()
    again = run("shrink", tmp_path / "in/a.avi", *options)
    assert again.returncode == 0 and "1 were there already" in again.stdout
    assert_refused(run("shrink", tmp_path / "in/a.avi", "--out", tmp_path / "out"), "these settings")
    assert_refused(run("shrink", tmp_path / "in", *options[:2], "--short-side", 33), "even")
    assert_refused(run("shrink", tmp_path / "in", "--out", tmp_path / "in"), "small copy")
    assert_refused(run("shrink", tmp_path / "in/deep/b.mp4", "--out", tmp_path / "in/a.avi"), "name of a folder")
