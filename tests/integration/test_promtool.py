"""The checks of rules and dashboard with promtool, also where none is installed: Debian's package is unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import test_rules
from tests.integration.prometheus_server import prometheus_binary


@pytest.fixture(autouse=True, scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    binary = prometheus_binary(tmp_path_factory.mktemp("debian"))
    if not binary.with_name("promtool").is_file():
        pytest.skip(f"no promtool beside {binary}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(binary.parent), prepend=":")
        yield


def test_the_configuration_and_its_rules_are_valid() -> None:
    test_rules.test_the_configuration_and_its_rules_are_valid()


def test_rules_do_what_they_say() -> None:
    test_rules.test_rules_do_what_they_say()


def test_the_dashboard_asks_valid_questions(tmp_path: Path) -> None:
    test_rules.test_the_dashboard_asks_valid_questions(tmp_path)
