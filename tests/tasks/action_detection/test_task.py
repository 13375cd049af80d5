"""The task's registration."""

from internvideo_hf.tasks import get_task


def test_the_task_is_known_by_its_folder():
    assert get_task("action_detection").name == "action_detection"
