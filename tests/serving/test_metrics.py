"""Figures for Prometheus."""

import pytest

pytest.importorskip("prometheus_client", reason="the extra serve is not installed")

from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from internvideo_hf.serving.metrics import Metrics  # noqa: E402


def test_figures_of_two_services_do_not_mix():
    first, second = Metrics(), Metrics()
    first.requests.labels("/v1/search", "200").inc()
    first.batches.observe(3)
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(first.text().decode())
        for sample in family.samples
    }
    assert found["internvideo_requests_total", "/v1/search", "200"] == 1
    assert found["internvideo_batch_items_sum",] == 3 and found["internvideo_batch_items_bucket", "2.0"] == 0
    assert found["process_resident_memory_bytes",] > 1e6
    assert b"/v1/search" not in second.text()
