"""The port that Prometheus scrapes: its own, so that nothing of it is ever where customers are.

Reading and writing happen in threads of the server; `read` says how to get at the numbers safely.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import (
    Metric as Family,
)
from prometheus_client.registry import Collector

from headrace_telemetry.metrics import Kind, Metric, Sample

Read = Callable[[], Iterable[Sample]]


class MetricsPortTaken(Exception):
    """Something else listens there."""


@dataclass(frozen=True, slots=True)
class Scraping:
    """A server that runs until it is closed."""

    server: WSGIServer
    thread: Thread

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def serve_metrics(catalogue: Mapping[str, Metric], read: Read, *, host: str, port: int) -> Scraping:
    """Raises `MetricsPortTaken`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Samples(catalogue, read))
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise MetricsPortTaken(f"{host}:{port}: {error.strerror}") from error
    return Scraping(server, thread)


class Samples(Collector):
    def __init__(self, catalogue: Mapping[str, Metric], read: Read) -> None:
        self._catalogue = catalogue
        self._read = read

    def collect(self) -> Iterator[Family]:
        families: dict[str, Family] = {}
        for sample in self._read():
            metric = self._catalogue[sample.metric]
            family = families.get(metric.name)
            if family is None:
                family = families[metric.name] = _family(metric)
            _add(family, metric, sample)
        yield from families.values()


def _family(metric: Metric) -> Family:
    kinds: dict[Kind, type[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]] = {
        Kind.COUNTER: CounterMetricFamily,
        Kind.GAUGE: GaugeMetricFamily,
        Kind.HISTOGRAM: HistogramMetricFamily,
    }
    return kinds[metric.kind](metric.name, metric.meaning, labels=metric.labels)


def _add(family: Family, metric: Metric, sample: Sample) -> None:
    if isinstance(family, HistogramMetricFamily):
        bounds = [*(str(float(bound)) for bound in metric.boundaries), "+Inf"]
        count, buckets = 0, []
        for bound, more in zip(bounds, sample.buckets, strict=True):
            count += more
            buckets.append((bound, count))
        family.add_metric(sample.labels, buckets=buckets, sum_value=sample.value)
    elif isinstance(family, CounterMetricFamily | GaugeMetricFamily):
        family.add_metric(sample.labels, sample.value)
