"""The files of a report of captions."""

from internvideo_hf.tasks.captioning.answers import Captions

CAPTIONS = Captions(["all/a.mp4", "b.mp4"], ["a dog", ""], [["a dog runs", "it runs"], ["a cat, asleep"]])


def test_a_report_has_a_line_for_each_reference(tmp_path):
    CAPTIONS.write(tmp_path / "report")
    lines = (tmp_path / "report/answers.csv").read_text().splitlines()
    assert lines == [
        "video,caption,reference",
        "all/a.mp4,a dog,a dog runs",
        "all/a.mp4,a dog,it runs",
        'b.mp4,,"a cat, asleep"',
    ]
    assert (tmp_path / "report/summary.txt").read_text() == f"{CAPTIONS.text()}\n"
    assert CAPTIONS.text().splitlines()[0] == "a.mp4: 'a dog', expected 'a dog runs'"
