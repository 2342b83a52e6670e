"""Rules and expressions, checked and tried by promtool."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.deploy.names import dashboard_expressions, rules
from tests.deploy.promtool import DEPLOY, promtool

HERE = Path(__file__).parent


def test_the_configuration_and_its_rules_are_valid() -> None:
    done = promtool("check", "config", DEPLOY / "prometheus.yml")
    assert done.returncode == 0, done.stdout
    assert "2 rule files found" in done.stdout


def test_rules_do_what_they_say() -> None:
    done = promtool("test", "rules", HERE / "rules_test.yml")
    assert done.returncode == 0, done.stdout


def test_every_alert_is_tried() -> None:
    document = yaml.safe_load((HERE / "rules_test.yml").read_text(encoding="utf-8"))
    cases = [case for test in document["tests"] for case in test.get("alert_rule_test", [])]
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == alerts
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == alerts


def test_every_alert_has_a_severity_and_says_what_happened() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in {"page", "ticket", "info"}
            assert rule["annotations"]["summary"]
            assert rule["for"]


def test_the_dashboard_asks_valid_questions(tmp_path: Path) -> None:
    recording = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(dashboard_expressions())]
    path = tmp_path / "panels.yml"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": recording}]}), encoding="utf-8")
    done = promtool("check", "rules", path)
    assert done.returncode == 0, done.stdout
    assert f"{len(recording)} rules found" in done.stdout
