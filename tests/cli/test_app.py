"""The program: its help, its installed form, and its exit after mistakes."""

import subprocess
import sys
from pathlib import Path

from program import assert_refused


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
