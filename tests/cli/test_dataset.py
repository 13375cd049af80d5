"""`dataset`: subsets and training lists of records; outputs and exit codes."""

import json
import re
import shlex

import pytest
import typer
from program import assert_refused, run
from video.clips import write_video

from internvideo_hf.cli.app import app
from internvideo_hf.training.inputs import TrainingData
from internvideo_hf.training.recipes import load_recipe

COMMANDS = typer.main.get_command(app).commands["dataset"].commands
EXAMPLES = [line.strip() for command in COMMANDS.values() for line in re.findall(r"Example: (.+)", command.help)]


def test_every_command_has_an_example_and_each_is_a_valid_call():
    assert {example.split()[2] for example in EXAMPLES} == set(COMMANDS)
    for example in EXAMPLES:
        program, group, name, *arguments = shlex.split(example)
        assert (program, group) == ("internvideo", "dataset")
        COMMANDS[name].make_context(name, arguments)


@pytest.fixture
def table(tmp_path):
    rows = [
        {
            "YoutubeID": f"{number // 4:011d}",
            "Start_timestamp": "00:00:01.0",
            "End_timestamp": f"00:00:0{2 + number % 5}.0",
            "Caption": f"clip {number}",
            "Aesthetic_Score": number / 10,
            "UMT_Score": 1 - number / 20,
        }
        for number in range(20)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "t.jsonl"


def test_subsets_are_written_with_their_counts(table, tmp_path):
    out = tmp_path / "o.jsonl"
    result = run("dataset", "div", table, "--count", 6, "--out", out)
    assert result.returncode == 0 and "Wrote 6 of 20 records of" in result.stdout
    assert len(out.read_text().splitlines()) == 6
    result = run("dataset", "flt", table, "--out", out, "--min-seconds", 1.5)
    assert (
        "Wrote 5 of 20 records to" in result.stdout
        and "lowest umt_score 0.7 (left out: 4 too short, 11 low" in result.stdout
    )
    result = run("dataset", "aes", table, "--min-score", 1.85, "--out", tmp_path / "o.parquet", "-q")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_refusals_come_in_one_line_and_leave_no_file(table, tmp_path):
    out = tmp_path / "o.jsonl"
    assert_refused(run("dataset", "div", table, "--count", 21, "--out", out), "expected 1 to 20")
    assert_refused(run("dataset", "div", table, "--count", 2, "--out", tmp_path / "o.csv"), "ending of")
    assert_refused(run("dataset", "aes", table, "--out", out), "--fraction, --min-score")
    assert_refused(run("dataset", "flt", table, "--score", "UMT_Skore", "--out", out), "Did you mean UMT_Score?")
    assert not out.exists()


def test_file_names_without_an_id_are_remarked_on(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"video": "v_short.mp4", "caption": "x"}\n')
    result = run("dataset", "div", tmp_path / "t.jsonl", "--count", 1, "--out", tmp_path / "o.jsonl")
    assert result.returncode == 0 and "1 of 1 file names do not begin with" in result.stderr


def test_training_lists_leave_out_what_is_not_there(table, tmp_path):
    (tmp_path / "00000000002.mp4").touch()
    result = run("dataset", "training-list", table, "--data-root", tmp_path, "--out", tmp_path / "train.jsonl")
    assert result.returncode == 0 and "Wrote 4 rows" in result.stdout
    first = json.loads((tmp_path / "train.jsonl").read_text().splitlines()[0])
    assert first == {"video": "00000000002.mp4", "caption": "clip 8", "start": 1.0, "end": 5.0}
    # The recipes take the list with the settings that the command names, and the table as they are.
    list_settings = re.search(r"with (data.train=\S+) (data.layout=null)\.", result.stdout).groups()
    table_settings = [f"data.train={table.name}", "data.missing=skip"]
    for settings in (list_settings, table_settings):
        recipe = load_recipe("viclip/stage1_base", settings)
        rows = TrainingData.read(recipe.data, recipe.model.task, tmp_path).train
        assert rows["caption"][:] == [f"clip {number}" for number in range(8, 12)] and rows[0]["end"] == 5.0


def test_build_says_what_came_of_each_stage(tmp_path):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos/good.mp4", 90)
    (tmp_path / "videos/bad.mp4").write_text("no video")
    command = ("dataset", "build", tmp_path / "videos", "--out", tmp_path / "out", "--jobs", 1)
    options = ("--detector", "fixed", "--window", 1, "--until", "clips", "--cut", "keyframe")
    result = run(*command, *options)
    assert result.returncode == 1 and "The plan: 2 here, 0 to download" in result.stdout
    assert "  shots: 2 in, 1 out, 1 failed\n" in result.stdout and "is the data card. 3 clips, 0 with" in result.stdout
    assert not (tmp_path / "out/train.jsonl").exists()
    assert f"1 failed; see {tmp_path / 'out/failures'}" in result.stderr
    (tmp_path / "videos/bad.mp4").unlink()
    quiet = run(*command, *options, "-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    for words, cause in (
        (("--detector", "contend"), "Did you mean content?"),
        (("--summarizer", "m"), "--summarizer needs --captioner"),
        (("--clip", "m"), "--clip and --aesthetic-head"),
        (("--until", "never"), "until (--until)"),
        (("--captioner", tmp_path / "none"), "none"),
    ):
        assert_refused(run(*command, "--detector", "fixed", *words), cause)
