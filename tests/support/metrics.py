"""What a scrape said, as Prometheus would read it."""

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: int) -> Series:
    """Blocking, as a scrape from outside is."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return parse(text)


def parse(text: str) -> Series:
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def value(series: Series, name: str, **labels: str) -> float:
    """Of the one series with at least these labels."""
    found = [
        figure for (metric, has), figure in series.items() if metric == name and has >= set(labels.items())
    ]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def total(series: Series, name: str, **labels: str) -> float:
    return sum(
        figure for (metric, has), figure in series.items() if metric == name and has >= set(labels.items())
    )
