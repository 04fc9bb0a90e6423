"""What is shipped for Prometheus and Grafana asks for metrics that there are, and Prometheus' own tool takes it."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from node.domain.alarm import AlarmKind
from node.ledger.alarms import AlarmLedger
from node.metrics.exposition import render_metrics
from node.settings.loading import load_settings
from tests.ledgers import Books, at, copy_ledger, make_facts, make_outcome, make_result
from tests.peers import require_program

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "radnode.json").read_text(encoding="utf-8"))
RULES = DEPLOY / "prometheus" / "radnode.rules.yml"
CONFIGURATION = DEPLOY / "prometheus" / "prometheus.yml"
OPERATIONS = (DEPLOY.parent / "docs" / "operations.md").read_text(encoding="utf-8")

# A metric and what stands in its braces.
SELECTOR = re.compile(r"\b(radnode_[a-z_]+)(?:\{(.*?)\})?")
MATCHER = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*\"([^\"]*)\"")
# Prometheus adds these itself.
OF_THE_TARGET = {"instance", "job"}
# Values that a site chooses.
OF_THE_SITE = {"destination", "pipeline", "source", "subject"}
# Which alert is to fire on what, and which not; one point a minute.
CASES = """
rule_files: ["{rules}"]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: radnode_alarms{{job="radnode", instance="n", kind="no-worker"}}
        values: 1x10
      - series: radnode_alarms{{job="radnode", instance="n", kind="store-low"}}
        values: 0x10
      - series: up{{job="radnode", instance="n"}}
        values: 1x10
    alert_rule_test:
      - eval_time: 5m
        alertname: RadnodeAlarm
        exp_alerts:
          - exp_labels: {{severity: warning, instance: n, kind: no-worker}}
            exp_annotations:
              summary: "n: alarm no-worker"
              description: "`radnode alarms` on the node says what, since when and what to do."
      - eval_time: 5m
        alertname: RadnodeGone
        exp_alerts: []
  - interval: 1m
    input_series:
      - series: up{{job="radnode", instance="n"}}
        values: 0x10
    alert_rule_test:
      - eval_time: 5m
        alertname: RadnodeGone
        exp_alerts:
          - exp_labels: {{severity: critical, instance: n, job: radnode}}
            exp_annotations:
              summary: radnode does not answer
              description: >-
                No metrics for two minutes. Images wait at their senders; nothing that was acknowledged is lost.
  - interval: 1m
    input_series:
      - series: radnode_store_bytes{{job="radnode", instance="full", what="free"}}
        values: 1000000-1000x500
      - series: radnode_store_bytes{{job="radnode", instance="full", what="reserve"}}
        values: 100000x500
      - series: radnode_store_bytes{{job="radnode", instance="empty", what="free"}}
        values: 1000000x500
      - series: radnode_store_bytes{{job="radnode", instance="empty", what="reserve"}}
        values: 100000x500
    alert_rule_test:
      - eval_time: 8h
        alertname: RadnodeSpaceEndsSoon
        exp_alerts:
          - exp_labels: {{severity: warning, job: radnode, instance: full, what: free}}
            exp_annotations:
              summary: "full: the store is full within a day"
              description: >-
                As it fell in the last six hours, free space reaches the reserve; then C-STORE is answered A700.
"""


def expressions() -> list[str]:
    """Return everything that Prometheus is asked."""
    asked = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    asked += [entry["definition"] for entry in DASHBOARD["templating"]["list"] if entry["type"] == "query"]
    return asked + re.findall(r"^\s+expr: (.*)$", RULES.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, set[str]]]:
    """Return name to labels to values of everything that a node tells to which something of each kind has happened."""
    folder = tmp_path_factory.mktemp("told")
    (folder / "store").mkdir()
    url = copy_ledger(folder)
    books = Books(url)
    job = books.claim(books.add_job(study="1.2.4"), now=at(20))
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(24))
    books.instances.record_instance(make_facts())
    books.instances.record_refusal(at=at(1), kind="instance-refused", text="x", code="not-dicom", count=1)
    AlarmLedger(books.engine).raise_alarm(AlarmKind.DESTINATION_DOWN, "pacs", "pacs is down", now=at(50))
    settings = load_settings(
        None,
        {
            "RADNODE__NODE__DATA_DIR": str(folder),
            "RADNODE__DESTINATIONS__PACS": '{ transport = "folder", url = "out" }',
            "RADNODE__ALARMS__SOURCES": '[{ aet = "MODALITY", minutes = 5 }]',
        },
    )
    text = render_metrics(settings, books.engine).decode()
    books.close()
    found: dict[str, dict[str, set[str]]] = {"radnode_memory_bytes": {"process": set()}}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


def test_whatever_is_asked_for_is_told(told: Mapping[str, Mapping[str, set[str]]]) -> None:
    asked = [found for expression in expressions() for found in SELECTOR.findall(expression)]
    assert len(asked) > 20
    for name, matchers in asked:
        assert name in told, name
        for label, _, value in MATCHER.findall(matchers):
            if label in OF_THE_TARGET:
                continue
            assert label in told[name], f"{name}: {label}"
            if label not in OF_THE_SITE:
                assert set(value.split("|")) <= told[name][label], f"{name}: {label} {value}"


def test_labels_by_which_sums_are_made_are_told(told: Mapping[str, Mapping[str, set[str]]]) -> None:
    for expression in expressions():
        names = {name for name, _ in SELECTOR.findall(expression)}
        known = OF_THE_TARGET.union(*(told[name] for name in names))
        for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
            assert {label.strip() for label in group.split(",")} <= known, expression


def test_every_metric_is_on_the_dashboard_and_in_the_manual(told: Mapping[str, Mapping[str, set[str]]]) -> None:
    shown = "\n".join(expressions())
    for name in told:
        family = re.sub(r"_(?:bucket|sum|count|created)$", "", name)
        assert family in shown, family
        assert f"`{family}`" in OPERATIONS, family


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with what the dashboard asks as rules, which the tool checks."""
    asked = [panel_expression for panel_expression in expressions() if not panel_expression.startswith("label_values")]
    lines = ["groups:", "  - name: dashboard", "    rules:"]
    for number, expression in enumerate(asked):
        text = expression.replace("$__rate_interval", "5m").replace("$instance", ".*")
        lines += [f"      - record: panel_{number}", f"        expr: {json.dumps(text)}"]
    (tmp_path / "dashboard.yml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "cases.yml").write_text(CASES.format(rules=RULES), encoding="utf-8")
    return tmp_path


@pytest.mark.needs("promtool")
@pytest.mark.parametrize(
    "words",
    [
        ("check", "config", "--syntax-only", str(CONFIGURATION)),
        ("check", "rules", str(RULES), "{folder}/dashboard.yml"),
        ("test", "rules", "{folder}/cases.yml"),
    ],
    ids=("configuration", "rules", "alerts"),
)
def test_prometheus_takes_it(words: tuple[str, ...], folder: Path) -> None:
    command = [require_program("promtool"), *(word.format(folder=folder) for word in words)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
