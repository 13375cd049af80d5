"""Figures of the service, as Prometheus reads them."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_ITEMS = (1, 2, 4, 8, 16, 32, 64)
_PREFIX = "internvideo"


class Metrics:
    """Counters of one service, apart from those of others in the same process.

    Attributes:
        requests: finished requests by endpoint and status.
        seconds: their times by endpoint.
        in_progress: requests that wait or are answered.
        videos: videos by outcome: "read", or "unreadable", also those that killed or hung their decoder.
        reading: seconds to the inputs of a video, with its wait for a decoder.
        batches: items of each call of the model.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        counter = partial(Counter, namespace=_PREFIX, registry=self._registry)
        histogram = partial(Histogram, namespace=_PREFIX, registry=self._registry)
        self.requests = counter("requests", "Finished requests", ("endpoint", "status"))
        self.seconds = histogram("request_seconds", "Time of a request", ("endpoint",), buckets=_SECONDS)
        self.in_progress = Gauge(
            "requests_in_progress", "Requests that wait or are answered", namespace=_PREFIX, registry=self._registry
        )
        self.videos = counter("videos", "Videos by outcome", ("outcome",))
        self.reading = histogram("reading_seconds", "Time of waiting, fetching and decoding", buckets=_SECONDS)
        self.batches = histogram("batch_items", "Items of a call of the model", buckets=_ITEMS)

    def text(self) -> bytes:
        """Return all figures in Prometheus' format."""
        return generate_latest(self._registry)
