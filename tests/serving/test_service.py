"""What a service does beside its routes; tests/serving/test_app.py has these on a port."""

import asyncio
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("prometheus_client", reason="the extra serve is not installed")

from internvideo_hf.serving.errors import RequestError  # noqa: E402
from internvideo_hf.serving.limits import Access, Limits  # noqa: E402
from internvideo_hf.serving.metrics import Metrics  # noqa: E402
from internvideo_hf.serving.models import ServedModel  # noqa: E402
from internvideo_hf.serving.service import FETCHES_OF_REQUEST, Service  # noqa: E402
from internvideo_hf.serving.sources import Source  # noqa: E402


@pytest.fixture(scope="module")
def service():
    service = Service(ServedModel.load("demo-classifier", device="cpu"), Limits(), Access(), Metrics(), 1)
    yield service
    service.stop()


def test_an_ability_that_is_not_there_is_named_with_those_that_are(service):
    service.require("classify")
    for ability, words in (
        ("caption", "has no caption; it has classify.$"),
        ("search", "An index is given by --index"),
    ):
        with pytest.raises(RequestError, match=words) as refused:
            service.require(ability)
        assert refused.value.code == "model_lacks_ability" and refused.value.status == 400


def test_a_classifier_takes_no_labels(service):
    assert service.check_classify(None, None, 3) == {"top_k": 3}
    for labels, template in ((["a"], None), (None, "a {}")):
        with pytest.raises(RequestError, match="is a classifier with 12 labels of its own"):
            service.check_classify(labels, template, 3)


def test_the_first_failure_ends_the_others(service):
    async def fail():
        raise ValueError("one")

    async def wait():
        try:
            await asyncio.sleep(60)
        finally:
            seen.ended = True

    seen = SimpleNamespace(ended=False)
    with pytest.raises(ValueError, match="one"):
        asyncio.run(service._all([wait(), fail()]))
    assert seen.ended


def test_a_request_fetches_few_videos_at_once_and_keeps_none(service, tmp_path, monkeypatch):
    lock, now, most = threading.Lock(), set(), []

    def fetch(source, access, limits):
        path = Path(source.folder) / source.name
        with lock:
            now.add(path)
            most.append(len(now))
        path.write_bytes(b"content")
        time.sleep(0.02)
        return replace(source, address=str(path))

    async def run(task, source, name, timeout):
        with lock:
            now.discard(Path(source.address))
        return Path(source.address).read_bytes()

    monkeypatch.setattr(sys.modules[Service.__module__], "fetch", fetch)
    monkeypatch.setattr(service._pool, "run", run)
    sources = [Source(f"http://host/{number}", str(number), str(tmp_path)) for number in range(12)]

    async def read():
        turns = asyncio.Semaphore(FETCHES_OF_REQUEST)
        return await service._all([service._read(print, source, turns) for source in sources])

    assert asyncio.run(read()) == [b"content"] * 12
    assert max(most) == FETCHES_OF_REQUEST and not list(tmp_path.iterdir())
