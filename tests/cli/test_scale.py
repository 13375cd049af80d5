"""What docs/scale.md names is there; tests/test_docs.py checks its commands."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs/scale.md").read_text()
COMMANDS = re.findall(r"^internvideo (.+)$", PAGE, re.M)


def test_models_of_others_are_named_by_folder_or_repository():
    named = re.findall(r"--(?:captioner|detector|encoder) (\S+)", PAGE)
    assert len(named) > 1 and all("/" in name for name in named)


def test_the_page_has_commands_and_its_link_is_there():
    assert len(COMMANDS) > 12
    assert "## Data at scale\n" in (Path(__file__).parents[2] / "benchmarks/README.md").read_text()
    assert "docs/scale.md" in (Path(__file__).parents[2] / "README.md").read_text()
