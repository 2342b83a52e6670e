"""docker-compose.yml: what is pinned, limited, closed and provisioned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.settings import Settings
from tests.deploy.promtool import DEPLOY, ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_the_services_are_those() -> None:
    assert set(SERVICES) == {"server", "prometheus", "grafana", "locust"}
    assert [name for name, each in SERVICES.items() if "profiles" in each] == ["locust"]
    assert SERVICES["locust"]["profiles"] == ["load"]


@pytest.mark.parametrize("name", SERVICES)
def test_versions_are_pinned(name: str) -> None:
    assert re.fullmatch(r".+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_limited_and_may_do_nothing_special(name: str) -> None:
    service = SERVICES[name]
    limits = service["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_fixed_and_open_on_this_machine_only(name: str) -> None:
    for port in SERVICES[name]["ports"]:
        assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port)


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_there(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source = volume.split(":")[0]
        assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", ["server", "locust"])
def test_what_is_built_has_a_stage(name: str) -> None:
    target = SERVICES[name]["build"]["target"]
    assert re.search(rf"^FROM \S+ AS {target}$", DOCKERFILE, re.MULTILINE)


def test_the_server_stage_is_what_a_plain_build_makes() -> None:
    assert re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)[-1] == "server"


@pytest.mark.parametrize("text", [DOCKERFILE, *(str(each.get("environment", "")) for each in SERVICES.values())])
def test_every_variable_is_a_setting(text: str) -> None:
    named = {name.lower() for name in re.findall(r"LEEWAY_([A-Z_]+)", text)}
    assert named - {"native"} <= set(Settings.model_fields)  # that one is the build's (scripts/build_native.py)


def test_the_server_has_more_time_to_stop_than_to_drain() -> None:
    server = SERVICES["server"]
    drain = float(server["environment"]["LEEWAY_DRAIN_SECONDS"])
    assert drain < float(server["stop_grace_period"].removesuffix("s"))
    image = re.search(r"LEEWAY_DRAIN_SECONDS=(\d+)", DOCKERFILE)
    assert image is not None
    assert int(image[1]) < 10  # what `docker stop` waits


def test_the_root_file_system_of_the_server_is_read_only() -> None:
    server = SERVICES["server"]
    assert server["read_only"] is True
    assert server["tmpfs"] == ["/tmp"]  # noqa: S108 - inside the container
    assert "latency-profiles:/profiles" in server["volumes"]
    assert "LEEWAY_PROFILE_DIR=/profiles" in DOCKERFILE


def test_prometheus_scrapes_the_server_and_grafana_reads_prometheus() -> None:
    scrapes = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert scrapes[0] == {"job_name": "leeway", "static_configs": [{"targets": ["server:8000"]}]}
    folder = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yml").read_text(encoding="utf-8"))["datasources"]
    assert source["url"] == SERVICES["server"]["environment"]["LEEWAY_PROMETHEUS_URL"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((folder / "dashboards/leeway.yml").read_text(encoding="utf-8"))["providers"]
    path = provider["options"]["path"]
    assert f"./deploy/grafana/dashboards:{path}:ro" in SERVICES["grafana"]["volumes"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (DEPLOY / "grafana/dashboards" / Path(home).relative_to(path)).is_file()
