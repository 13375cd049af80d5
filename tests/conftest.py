"""Options and fixtures shared by all tests."""

from pathlib import Path

import pytest

GOLDEN_ROOT = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-root",
        type=Path,
        default=GOLDEN_ROOT,
        help="directory with an index.json of reference cases for test_parity.py (default: tests/golden)",
    )


@pytest.fixture(scope="session")
def golden() -> Path:
    """The project's own reference data (`--golden-root` concerns test_parity.py alone)."""
    return GOLDEN_ROOT
