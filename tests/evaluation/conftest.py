"""Classifiers and clips for ensembles."""

from pathlib import Path

import pytest
from evaluation.classifiers import write_classifiers, write_clips


@pytest.fixture(scope="session")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the folders of two classifiers that differ in frames, size, rule and statistics."""
    return write_classifiers(tmp_path_factory.mktemp("classifiers"))


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of labelled clips, with val.csv and fit.csv."""
    return write_clips(tmp_path_factory.mktemp("clips"))
