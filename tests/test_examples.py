"""Every example runs from top to bottom, and the README's snippets work."""

import re
import runpy
import subprocess
import sys
import tempfile

import pytest
from conftest import ROOT
from snippets import run_snippets

EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("[0-9]*.py"))
# Example -> the clip that it tells of, and the right answer.
ANSWERS = {
    "01_zero_shot.py": (
        "a large blue arrow moves to the left over a dotted background",
        "a blue arrow that moves to the left",
    ),
    "02_classify.py": ("the arrow moves to the left", "moves to the left"),
}
# Two trainings, of which test_training_run.py has both at a smaller size; one whose steps test_training.py has.
SLOW = ["06_pretrain.py", "09_navigate.py"]


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in EXAMPLES])
def test_example_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    printed = capsys.readouterr().out.strip()
    assert printed
    if name in ANSWERS:
        # The best answer stands first; the truth is in the line before.
        clip, answer = ANSWERS[name]
        truth, best = printed.splitlines()[:2]
        assert truth == f"The clip: {clip}" and re.fullmatch(rf" *\d+\.\d%  {answer}", best)
    assert len((ROOT / "examples" / name).read_text().splitlines()) <= 60


@pytest.mark.slow
def test_the_service_runs_on_ray():
    pytest.importorskip("ray", reason="the extra ray is not installed")
    start = "import ray, runpy, sys; ray.init('local', num_cpus=2, include_dashboard=False)"
    code = f"{start}; from ray import serve; runpy.run_path(sys.argv[1], run_name='__main__'); ray.shutdown()"
    command = [sys.executable, "-c", code, str(ROOT / "examples/serve_ray.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    if 'pip install "ray[serve]"' in done.stderr:
        pytest.skip("ray[serve] is not installed")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ *\d+\.\d%  a red square\n *\d+\.\d%  a blue circle$", done.stdout, re.M)


# Begin of a command of the README -> its right answer, of the clips that `internvideo demo` draws.
RIGHT = {
    "internvideo classify demo/test/00006.mp4 --model demo-classifier": r"\n *\d+\.\d%  grows\n",
    "internvideo caption demo/": r"\n  a small red shape shakes from side to side over a cloudy background\n",
    "internvideo zero-shot demo/": r"demo/test/00006.mp4\n *\d+\.\d%  a cross grows ",
    "internvideo ask ": r"00010.mp4\n  what color is it\?\n *\d+\.\d%  red\n",
    "internvideo localize demo/": r"long.mp4\n(  .*%\n){3}",
    "internvideo search demo.index": r"choice .*\n\*  1\. .*/00010.mp4\n",
}


def test_readme_runs_and_answers_rightly(desk):
    readme = ROOT / "README.md"
    lines, found = readme.read_text(encoding="utf-8").splitlines(), set()
    for number, printed in run_snippets(readme).items():
        for start, answer in RIGHT.items():
            if lines[number - 1].startswith(start):
                assert re.search(answer, printed), f"{lines[number - 1]}\n{printed}"
                found.add(start)
    assert found == set(RIGHT)


def test_readme_stays_short_enough_to_be_read():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120 and max(map(len, lines)) <= 180
