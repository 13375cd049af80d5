"""transformers' own tests, as modules: its wheel leaves them out, its source distribution has those at the top.

`load("test_modeling_common")` downloads the source distribution of the installed version once, into our cache.

Used are `ModelTesterMixin`, `ConfigTester`, `VideoProcessingTestMixin`, `ProcessorTesterMixin`, `PipelineTesterMixin`.
Out of reach are those of training (written for token ids alone), of FSDP, tensor and expert parallelism (for causal
language models, and they need a module that is not distributed), of generation and export (not distributed), of
tokenizers and backbones (no class of ours is one).
"""

import hashlib
import importlib
import os
import re
import shutil
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch
from urllib.parse import urldefrag, urljoin

import pytest
import transformers
from filelock import FileLock

from internvideo_hf.checkpoints.model_names import cache_folder

PACKAGE = "tests_of_transformers"
TIMEOUT = 60  # seconds, for each answer of the index


# What the tests import and the source distribution lacks -> its content here. So neither exporting nor generating is
# tested; the former by checks of our own (`models.model_checks`), the latter by those of the caption decoder.
STAND_INS: Mapping[str, Mapping[str, Any]] = {
    f"{PACKAGE}.exporters": {"__path__": []},
    f"{PACKAGE}.exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
    f"{PACKAGE}.generation": {"__path__": []},
    f"{PACKAGE}.generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
    f"{PACKAGE}.utils": {"__path__": []},
    f"{PACKAGE}.utils.test_configuration_utils": {"config_common_kwargs": {"return_dict": False}},
    "fetch_hub_objects_for_ci": {"url_to_local_path": str},
}


class Unreachable(Exception):
    """The package index cannot be reached, or lacks the installed version."""


def fetch(version: str = transformers.__version__, index: str | None = None) -> Path:
    """Return the folder of the tests in transformers' source distribution, downloaded if need be.

    Args:
        version: of transformers.
        index: address of a package index of the simple kind; `PIP_INDEX_URL` or PyPI by default.

    Raises:
        Unreachable: if the index does not answer, or has no such version.
        ValueError: if the index states no SHA-256, or another than the file has.
    """
    index = index or os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple"
    cache = cache_folder() / "transformers-tests"
    folder = cache / version
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):  # of several processes that collect tests, one downloads
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                archive = Path(scratch) / "archive.tar.gz"
                download(version, index, archive)
                extract(archive, Path(scratch) / "tests")
                (Path(scratch) / "tests").rename(folder)
    return folder


def download(version: str, index: str, path: Path) -> None:
    """Write the source distribution that the index lists to a file, once its hash is the listed one."""
    name, page = f"transformers-{version}.tar.gz", f"{index.rstrip('/')}/transformers/"
    try:
        with urllib.request.urlopen(page, timeout=TIMEOUT) as answer:
            links = re.findall(r'href="([^"]+)"', answer.read().decode())
        urls = [urljoin(page, unescape(link)) for link in links if urldefrag(link)[0].rsplit("/", 1)[-1] == name]
        if not urls:
            raise Unreachable(f"{page} lists no {name}.")
        address, fragment = urldefrag(urls[0])
        with urllib.request.urlopen(address, timeout=TIMEOUT) as answer, path.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except OSError as error:
        raise Unreachable(f"{page} cannot be reached: {error}") from error
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if fragment != f"sha256={found}":
        raise ValueError(f"{address} has sha256={found}, but the index says {fragment or 'none'}.")


def extract(archive: Path, folder: Path) -> None:
    """Write the tests of a source distribution, and nothing else of it, to a folder."""
    folder.mkdir()
    with tarfile.open(archive) as files:
        for member in files:
            if member.isfile() and re.fullmatch(r"[^/]+/tests/\w+\.py", member.name):
                member.name = member.name.rsplit("/", 1)[1]
                # Not by `extract`, whose filter Python 3.11 has from its fourth release on.
                content = files.extractfile(member)
                (folder / member.name).write_bytes(content.read())


def load(module: str) -> ModuleType:
    """Import a module of the tests.

    Args:
        module: such as "test_modeling_common". The calling module is skipped where it cannot be had.
    """
    pytest.importorskip("parameterized")  # by which the tests repeat themselves
    if PACKAGE not in sys.modules:
        try:
            folder = fetch()
        except Unreachable as error:
            pytest.skip(str(error), allow_module_level=True)
        package = ModuleType(PACKAGE)
        package.__path__ = [str(folder)]
        sys.modules[PACKAGE] = package
        for name, content in STAND_INS.items():
            sys.modules[name] = ModuleType(name)
            vars(sys.modules[name]).update(content)
    # They import transformers anew from where it stands in a clone.
    with patch("transformers.utils.direct_transformers_import", lambda _: transformers):
        return importlib.import_module(f"{PACKAGE}.{module}")
