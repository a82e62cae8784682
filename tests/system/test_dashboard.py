"""What the dashboard and the alerts ask for is what a service tells; nothing that the product promises is missing."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from promql import Selected, grouped_by, is_balanced, selected
from sequencer_process import ROOT, Sequencer, StartSequencer

GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboard.json").read_text())
RULES: dict[str, Any] = yaml.safe_load((GRAFANA / "alerts.yml").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
EXPRESSIONS = [
    *(target["expr"] for panel in PANELS for target in panel["targets"]),
    *(rule["expr"] for rule in ALERTS),
    *(
        re.sub(r"^label_values\((.*), \w+\)$", r"\1", variable["query"]["query"])
        for variable in DASHBOARD["templating"]["list"]
        if variable["type"] == "query"
    ),
]

# What Prometheus itself adds: whether it got an answer, and from whom.
OF_PROMETHEUS = {"up"}
OF_TARGET = {"job", "instance"}
# Labels whose values are known from the start.
CLOSED = {"outcome", "state", "result"}

# What is asked for, and the panels that show it.
SHOWN = {
    "requests": "Requests by route",
    "errors": "Errors by route",
    "duration by matched route": "Duration by route",
    "GraphQL operations": "GraphQL operations",
    "planner queue": "Planner queue",
    "planner time": "Planner time",
    "planner gap": "Planner gap",
    "pool": "Connection pool",
    "events": "Events",
    "subscriptions": "Subscriptions",
    "failovers": "Failovers",
    "loop lag": "Loop lag",
    "memory": "Memory",
    "cache": "Document cache",
    "readiness": "Readiness",
}

Told = dict[str, dict[str, set[str]]]


def told_by(text: str) -> Told:
    """Return the names of the metrics, and of each the values of its labels."""
    told: Told = {}
    for family in text_string_to_metric_families(text):
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        told |= {family.name + suffix: {} for suffix in suffixes}
        for sample in family.samples:
            for label, value in sample.labels.items():
                told.setdefault(sample.name, {}).setdefault(label, set()).add(value)
    return told


@pytest.fixture(scope="module")
def driven(start_shared_sequencer: StartSequencer, game_state: dict[str, Any]) -> Sequencer:
    """A sequencer with its database, of which everything was asked once."""
    sequencer = start_shared_sequencer(SEQUENCER_PERSISTENCE="piccolo", SEQUENCER_LANE_WORKERS="1")
    for strategy in ("genetic", "optimal"):
        assert sequencer.plan(game_state, strategy=strategy).status_code == 200
    for query in ("{ __typename }", "{ __typename }", "{ none }", f"{{ {'a ' * 201} }}"):
        sequencer.client.post("/graphql", json={"query": query})
    sequencer.client.get("/none")
    return sequencer


@pytest.mark.slow
def test_every_metric_and_label_that_is_asked_for_is_told(driven: Sequencer) -> None:
    told = told_by(driven.client.get("/metrics").text)
    asked = {one.metric for expression in EXPRESSIONS for one in selected(expression)}
    assert len(asked) > 40
    assert asked - told.keys() == OF_PROMETHEUS
    for expression in EXPRESSIONS:
        metrics = [one for one in selected(expression) if told.get(one.metric)]
        for one in metrics:
            labels = told[one.metric]
            for label, operator, value in one.matchers:
                assert label in labels.keys() | OF_TARGET, expression
                if label in CLOSED and operator in ("=", "=~"):
                    assert set(value.split("|")) <= labels[label], expression
        known = {label for one in metrics for label in told[one.metric]}
        if len(metrics) == len(list(selected(expression))):
            assert grouped_by(expression) <= known | OF_TARGET, expression


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_bracket_is_closed(expression: str) -> None:
    assert is_balanced(expression)


def test_what_is_read_of_an_expression_is_what_it_names() -> None:
    expression = 'sum by (le, x) (rate(a_bucket{job="b"}[5m])) / on (job) c{d=~"e|f"} > 1e9 and count(g) unless h'
    assert [one.metric for one in selected(expression)] == ["a_bucket", "c", "g", "h"]
    assert [one.matchers for one in selected(expression)][:2] == [[("job", "=", "b")], [("d", "=~", "e|f")]]
    assert grouped_by(expression) == {"le", "x", "job"}
    assert not is_balanced("sum(rate(a[5m))")


def test_everything_that_is_promised_has_a_panel() -> None:
    titles = [panel["title"] for panel in PANELS]
    assert set(SHOWN.values()) <= set(titles)
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_every_panel_reads_the_source_that_is_chosen_and_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["description"].endswith(".")
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        for one in selected(target["expr"]):
            assert one.matchers[:2] == [("job", "=~", "$job"), ("instance", "=~", "$instance")]


def test_panels_do_not_lie_upon_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_every_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+[smh]", rule["for"])
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert re.search(r": \S", rule["annotations"]["summary"])


def test_panels_that_an_alert_names_are_there() -> None:
    summaries = " ".join(rule["annotations"]["summary"] for rule in ALERTS)
    named = {
        name
        for list_of in re.findall(r"panels? ((?:`[^`]+`(?:, | and )?)+)", summaries)
        for name in re.findall(r"`([^`]+)`", list_of)
    }
    assert len(named) > 5
    assert named <= {panel["title"] for panel in PANELS}


def test_prometheus_asks_where_the_numbers_are_and_knows_the_rules() -> None:
    prometheus = yaml.safe_load((GRAFANA / "prometheus.yml").read_text())
    assert [Path(GRAFANA / file).is_file() for file in prometheus["rule_files"]] == [True]
    (scraped,) = prometheus["scrape_configs"]
    assert scraped["metrics_path"] == "/metrics"
    assert f'up{{job="{scraped["job_name"]}"}}' in next(
        rule["expr"] for rule in ALERTS if rule["alert"] == "ServiceDown"
    )


@pytest.mark.slow
def test_every_number_that_is_told_is_explained_and_nothing_else(driven: Sequencer) -> None:
    families = text_string_to_metric_families(driven.client.get("/metrics").text)
    told = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    page = (ROOT / "docs" / "guides" / "observability.md").read_text()
    tables = "\n".join(line for line in page.splitlines() if line.startswith("| `"))
    explained = {
        name for cell in re.findall(r"^\| ([^|]+) \|", tables, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    }
    assert explained == told


def asked_by(alert: str) -> list[Selected]:
    (expression,) = [rule["expr"] for rule in ALERTS if rule["alert"] == alert]
    return list(selected(expression))


@pytest.mark.slow
def test_a_plan_that_takes_as_long_as_it_may_is_no_slow_request(driven: Sequencer) -> None:
    (durations,) = asked_by("RequestsAreSlow")
    ((label, operator, left_out),) = durations.matchers
    assert (label, operator) == ("route", "!~")
    paths = driven.client.get("/openapi.json").json()["paths"]
    planning = {path for path in paths if path.endswith(("/plan", "_steps"))}
    assert len(planning) == 4
    for route in (*planning, "/api/v1/plans", "/graphql", "unmatched"):
        assert re.fullmatch(left_out, route), route
    for route in ("/api/v1/plans/{id}", "/api/v1/presets", "/readyz"):
        assert not re.fullmatch(left_out, route), route
    assert [one.metric for one in asked_by("PlansWait")] == ["planner_wait_seconds_bucket"]


def test_failures_that_http_answers_with_200_have_an_alert() -> None:
    errors, _ = asked_by("OperationsFail")
    assert errors == Selected("graphql_errors_total", [("code", "=", "INTERNAL_SERVER_ERROR")])


def test_who_should_hear_and_does_not_needs_not_have_heard_before() -> None:
    assert [one.metric for one in asked_by("EventsAreNotHeard")] == ["event_relay_listening", "event_relay_running"]
