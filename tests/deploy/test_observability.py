"""The files for Prometheus and Grafana: every metric and label that they name exists; alerts do what they say."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from visavis.bot.metrics import Metrics
from visavis.models.engine_metrics import EngineMetrics

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana/dashboards/visavis.json"
RULES = DEPLOY / "prometheus/alerts.yml"
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
OF_PROMETHEUS = {"up"}
LABELS = {"outcome", "reason", "kind", "channel", "le", "instance", "job"}


def registries() -> list[CollectorRegistry]:
    counters = dict.fromkeys(("completed", "failed", "cancelled", "rejected"), 0)
    counters |= dict.fromkeys(("encoder_forwards", "fusion_forwards", "decode_steps", "rows_freed"), 0)
    counters |= {"image_hits": 0, "image_misses": 0}
    images = SimpleNamespace(cached_bytes=0)
    engine: Any = SimpleNamespace(counters=SimpleNamespace(**counters), images=images, waiting=0, running=0)
    return [Metrics().registry, EngineMetrics(engine).registry]


def existing() -> set[str]:
    families = [family for registry in registries() for family in registry.collect()]
    return {family.name + suffix for family in families for suffix in SUFFIXES[family.type]} | OF_PROMETHEUS


def expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    return [target["expr"] for panel in panels for target in panel["targets"]] + [rule["expr"] for rule in rules]


def names(expression: str) -> set[str]:
    """The metrics in a query."""
    return set(re.findall(r"\b(?:visavis_\w+|process_\w+|up)\b", expression))


def test_every_metric_that_they_name_exists() -> None:
    named = {name for expression in expressions() for name in names(expression)}
    assert len(named) > 20
    assert named - existing() == set()


def test_every_metric_of_ours_is_on_the_dashboard_or_in_an_alert() -> None:
    shown = " ".join(expressions())
    bare = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in existing() if name.startswith("visavis_")}
    unseen = {name for name in bare if name not in shown}
    assert unseen <= {
        "visavis_turn_queue_time_seconds",
        "visavis_turn_duration_seconds",
        "visavis_engine_encoder_forwards",
        "visavis_engine_fusion_forwards",
        "visavis_engine_rows_freed",
    }


def test_queries_use_labels_that_exist_and_none_is_a_person_or_a_conversation() -> None:
    used: set[str] = set()
    for expression in expressions():
        for group in re.findall(r"by \(([^)]*)\)", expression) + re.findall(r"\{([^}]*)\}", expression):
            used |= {re.split(r"[=!]", part)[0].strip() for part in group.split(",")}
    assert used <= LABELS
    for registry in registries():
        for collector in registry._collector_to_names:
            assert set(getattr(collector, "_labelnames", ())) <= LABELS


def test_every_alert_says_what_to_do_and_how_bad_it_is() -> None:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("page", "warn", "info")
            assert rule["annotations"]["summary"] and rule["annotations"]["what_to_do"]


def test_the_dashboard_has_no_panel_twice_or_over_another() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed")
@pytest.mark.parametrize("check", [["check", "config", "prometheus.yml"], ["test", "rules", "alerts.test.yml"]])
def test_promtool_finds_nothing(check: list[str]) -> None:
    run = subprocess.run(["promtool", *check], cwd=RULES.parent, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
