"""`calibrate`: its help; its results are tested in tests/tasks/open_set."""

from program import run


def test_help_teaches_what_to_give():
    words = " ".join(run("calibrate", "--help").stdout.split())
    assert "that it was not trained on" in words and "No unknown videos are needed" in words
    assert "internvideo calibrate run/final val.csv --method energy" in words
    assert '"unknown"' in " ".join(run("classify", "--help").stdout.split())
