"""The program: its help, its installed form, and its exit after mistakes."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import forks
import pytest
import typer
from program import assert_refused, run
from video.clips import write_video

import internvideo_hf
from internvideo_hf.cli.app import app


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
    done = forks.run(forks.PROGRAM, "convert", tmp_path / "none.ckpt", tmp_path / "out")
    assert_refused(done, "none.ckpt", "does not exist")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("demo", "--clips", "0"), r"Invalid value for '--clips'.*\b0\b.*\b1\b.* See `internvideo demo --help`\."),
        (
            ("demo", "--clips", "241"),
            r"Invalid value for '--clips'.*\b241\b.*\b240\b.* See `internvideo demo --help`\.",
        ),
        (("demo", "--clips", "x"), r"Invalid value for '--clips'.*'x'.*integer.* See `internvideo demo --help`\."),
        (("scan", "a", "--video-timeout", "-1"), r"Invalid value for '--video-timeout'.*-1.* 0\.1 to .* See `.*`\."),
        (("caption", "a.mp4"), r"Missing option '--model'\. See `internvideo caption --help`\."),
        (("scan",), r"Missing argument .*VIDEOS.*\. See `internvideo scan --help`\."),
        (("scan", "a", "--job", "1"), r"No such option: '?--job'?.*--jobs.* See `internvideo scan --help`\."),
        (("scam", "a"), r"No such command 'scam'[.?].* See `internvideo --help`\."),
        (("--versio",), r"No such option: '?--versio'?.* See `internvideo --help`\."),
        (("dataset", "buld"), r"No such command 'buld'[.?].* See `internvideo dataset --help`\."),
    ],
)
def test_mistakes_in_arguments_end_in_one_line(arguments, line):
    done = run(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(f"internvideo: {line}\n", done.stderr, re.I), done.stderr
    assert "?." not in done.stderr and ".." not in done.stderr


@pytest.mark.parametrize("arguments", [(), ("dataset",)])
def test_without_arguments_the_help_is_shown(arguments):
    done = run(*arguments)
    assert "Usage: " in done.stdout + done.stderr and "Commands:" in done.stdout + done.stderr
    assert "internvideo: " not in done.stderr


COMMANDS_THAT_TAKE_LONG = {
    "scan": ("verification.verify_videos", ["v.mp4"]),
    "shrink": ("transcoding.transcode_videos", ["v.mp4", "--out", "out"]),
}


@pytest.mark.parametrize("command", COMMANDS_THAT_TAKE_LONG)
def test_ctrl_c_ends_a_command_in_one_line(command, tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    (tmp_path / "v.mp4").touch()
    name, arguments = COMMANDS_THAT_TAKE_LONG[command]
    monkeypatch.setattr(f"internvideo_hf.data.{name}", stop)
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGINT)
    try:
        result = run(command, *arguments, "--quiet")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert (result.returncode, result.stdout) == (130, "")
    assert result.stderr == "stopped; run the same command to go on\n"


def running_in_group(group: int) -> list[str]:
    """Return the processes of a group that run; those that ended count until their parent asks for them."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 2) for line in listed.splitlines()]
    return [line[2] for line in lines if line[0] == str(group) and not line[1].startswith("Z")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C goes to a group of processes")
@pytest.mark.parametrize("options", [("shrink",), ("index", "--model", "demo-mm")], ids=lambda options: options[0])
@pytest.mark.parametrize("seconds", [0, 3, 8])
def test_ctrl_c_prints_no_tracebacks_of_workers(options, tmp_path, seconds):
    video = write_video(tmp_path / "0.mp4", 2000)
    for number in range(1, 200):  # more than any machine does before the signal
        shutil.copy(video, tmp_path / f"{number}.mp4")
    command = [Path(sys.executable).with_name("internvideo"), *options, tmp_path, "--out", tmp_path / "out"]
    process = subprocess.Popen(
        [*command, "--jobs", "2"],
        start_new_session=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell may have ignored it
    )
    assert process.stdout.read(1)  # the bar is there
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and "Traceback" not in said
    assert said.endswith("stopped; run the same command to go on\n")
    for _ in range(50):  # a process that is ending is still listed for a moment
        if not running_in_group(process.pid):
            break
        time.sleep(0.1)
    assert not running_in_group(process.pid)
    assert not [file for file in (tmp_path / "out").glob(".*")], "no unfinished file and no lock is left"


def test_version_and_short_help():
    assert run("--version").stdout == f"internvideo {internvideo_hf.__version__}\n"
    assert run("-h").stdout == run("--help").stdout and "--version" in run("-h").stdout
    assert run("convert", "-h").stdout == run("convert", "--help").stdout
    assert "--install-completion" in run("-h").stdout


def test_completion_is_that_of_the_program_however_it_is_called():
    # The program asks which shell has started it: the test may run below none.
    shown = subprocess.run(
        ["bash", "-c", '"$0" -m internvideo_hf --show-completion; true', sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert shown.rstrip().endswith(" internvideo")


def test_the_package_is_the_program():
    done = subprocess.run(
        [sys.executable, "-m", "internvideo_hf", "--version"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout.startswith("internvideo ")


@pytest.mark.parametrize(
    "arguments",
    [("--debug", "classify", "a.mp4", "--model", "nowhere"), ("classify", "a.mp4", "--model", "nowhere", "--debug")],
)
def test_debug_shows_the_traceback(arguments):
    assert_refused(run("classify", "a.mp4", "--model", "nowhere"), "nowhere")
    done = run(*arguments)
    assert done.returncode == 2 and "Traceback" in done.stderr and "ValueError: No model 'nowhere'" in done.stderr


RUN_A_MODEL = ("zero-shot", "classify", "extract", "reconstruct", "index", "search", "demo", "evaluate")


def test_options_of_running_a_model_are_the_same_in_every_command():
    commands = typer.main.get_command(app).commands
    options = {
        (name, option.opts[0]): (option.help, option.default)
        for name in RUN_A_MODEL
        for option in commands[name].params
    }
    for option, default, commands_without in (
        ("--dtype", "saved", ()),
        ("--compile", None, ()),
        ("--device", None, ()),
        ("--batch-size", 8, ("search", "demo")),  # one query, one clip at a time
    ):
        taken = {options.get((name, option)) for name in RUN_A_MODEL if name not in commands_without}
        assert len(taken) == 1 and next(iter(taken))[1] == default, (option, taken)
        assert all((name, option) not in options for name in commands_without)


def test_a_package_of_an_extra_that_is_missing_is_named_with_the_extra(monkeypatch):
    def not_installed(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'accelerate'", name="accelerate")

    monkeypatch.setattr("internvideo_hf.data.verification.verify_videos", not_installed)
    refused = run("scan", "v.mp4", "--quiet")
    assert_refused(refused, "internvideo: accelerate is not installed: pip install 'internvideo-hf[train]'.")


COMMANDS = typer.main.get_command(app).commands
EXAMPLES = [line.strip() for command in COMMANDS.values() for line in re.findall(r"Example: (.+)", command.help)]


def test_every_command_but_doctor_has_an_example():
    assert {example.split()[1] for example in EXAMPLES} == set(COMMANDS) - {"doctor"}


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_of_the_help_are_valid_calls(example):
    program, name, *arguments = shlex.split(example)
    assert program == "internvideo"
    COMMANDS[name].make_context(name, arguments)  # raises for unknown options, missing ones, and values out of range
