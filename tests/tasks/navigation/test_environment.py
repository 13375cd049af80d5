"""The contract of environments."""

from internvideo_hf.tasks.navigation.environment import Environment
from internvideo_hf.tasks.navigation.world import PanoramaWorld


def test_what_lacks_a_method_is_no_environment():
    class Part:
        instruction = "go"

    names = ("reset", "observe", "candidates", "move", "stop", "distance_to_goal", "path")
    for name in names:
        setattr(Part, name, getattr(PanoramaWorld, name))
    assert isinstance(Part(), Environment)
    for name in names:
        method = getattr(Part, name)
        delattr(Part, name)
        assert not isinstance(Part(), Environment), name
        setattr(Part, name, method)
