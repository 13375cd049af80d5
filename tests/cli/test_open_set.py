"""`calibrate`: its help; its results are tested in tests/tasks/open_set."""

import pytest
from program import assert_refused, run


def test_help_teaches_what_to_give():
    words = " ".join(run("calibrate", "--help").stdout.split())
    assert "that it was not trained on" in words and "No unknown videos are needed" in words
    assert "internvideo calibrate run/final val.csv --method energy" in words
    assert '"unknown"' in " ".join(run("classify", "--help").stdout.split())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("workers=2", "workers is an option of the command: --workers."),
        ("data_root=x", ": --data-root."),
        ("model=x", "model is an argument of the command, not of a method."),
        ("temperature", "Got 'temperature' for an option of a method. Expected NAME=VALUE"),
    ],
)
def test_options_of_the_command_are_none_of_a_method(setting, words, tmp_path):
    assert_refused(run("calibrate", "demo-classifier", tmp_path, setting, "--out", tmp_path / "scorer"), words)
