"""The small classifier and its videos, which tests only read."""

from pathlib import Path

import pytest
from tasks.open_set.drawn import write_classifier, write_lists


@pytest.fixture(scope="session")
def known_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lists(tmp_path_factory.mktemp("open-set-videos"))


@pytest.fixture(scope="session")
def known_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("open-set-model"))


@pytest.fixture(scope="session")
def evidential_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evidential-model")
    return write_classifier(folder, is_evidential=True, seed=1, evidential={"evidence": "softplus"})
