"""Subtitles as the formats define them; ActivityNet's results."""

import io

import av
import pytest

from internvideo_hf.tasks.temporal_localization.localization import Action, Localization
from internvideo_hf.tasks.temporal_localization.subtitles import save_subtitles, to_activitynet, to_ass, to_vtt

FOUND = Localization(
    [Action("high <jump> & {run}", 0.873, 3725.5, 3726.9996), Action("wave\n\\", 0.2, 1.25, 2.0)],
    4000.0,
    [[10.0, 11.5]],
)


def test_vtt_has_a_cue_for_each_action_and_gap_by_time():
    assert to_vtt(FOUND) == (
        "WEBVTT\n\n"
        "00:00:01.250 --> 00:00:02.000\nwave\\n\\  20%\n\n"
        "00:00:10.000 --> 00:00:11.500\n(the video is damaged)\n\n"
        "01:02:05.500 --> 01:02:07.000\nhigh &lt;jump&gt; &amp; {run}  87%\n"
    )


def test_ass_has_hundredths_and_no_commands():
    lines = to_ass(FOUND).split("[Events]\n")[1].splitlines()[1:]
    assert lines == [
        "Dialogue: 0,0:00:01.25,0:00:02.00,Default,,0,0,0,,wave/n/  20%",
        "Dialogue: 0,0:00:10.00,0:00:11.50,Default,,0,0,0,,(the video is damaged)",
        "Dialogue: 0,1:02:05.50,1:02:07.00,Default,,0,0,0,,high <jump> & (run)  87%",
    ]


def test_recordings_of_a_day_keep_the_digits_of_their_hours():
    late = Localization([Action("run", 0.5, 36001.0, 360001.5)], None)
    assert "10:00:01.000 --> 100:00:01.500" in to_vtt(late)
    assert "Dialogue: 0,10:00:01.00,100:00:01.50," in to_ass(late)


@pytest.mark.parametrize(("write", "format"), [(to_vtt, "webvtt"), (to_ass, "ass")])
def test_ffmpeg_reads_them(write, format):
    with av.open(io.BytesIO(write(FOUND).encode()), format=format) as container:
        times = [float(packet.pts * packet.time_base) for packet in container.demux() if packet.pts is not None]
    assert times == pytest.approx([1.25, 10.0, 3725.5], abs=0.01)


def test_the_ending_names_the_format(tmp_path):
    for name, write in (("a/x.vtt", to_vtt), ("a/x.ASS", to_ass)):
        save_subtitles(FOUND, tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8") == write(FOUND)
    with pytest.raises(ValueError, match="ending of the subtitles"):
        save_subtitles(FOUND, tmp_path / "x.srt")


def test_activitynet_results_hold_all_actions():
    assert to_activitynet({"v": FOUND})["results"] == {
        "v": [
            {"label": "high <jump> & {run}", "score": 0.873, "segment": [3725.5, 3726.9996]},
            {"label": "wave\n\\", "score": 0.2, "segment": [1.25, 2.0]},
        ]
    }
