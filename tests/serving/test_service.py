"""What a service does beside its routes; tests/serving/test_app.py has these on a port."""

import asyncio
from types import SimpleNamespace

import pytest

pytest.importorskip("prometheus_client", reason="the extra serve is not installed")

from internvideo_hf.serving.errors import RequestError  # noqa: E402
from internvideo_hf.serving.limits import Access, Limits  # noqa: E402
from internvideo_hf.serving.metrics import Metrics  # noqa: E402
from internvideo_hf.serving.models import ServedModel  # noqa: E402
from internvideo_hf.serving.service import Service  # noqa: E402


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
