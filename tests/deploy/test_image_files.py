"""What the Dockerfile takes along: the pinned packages, and the health check."""

from __future__ import annotations

import importlib.util
import re
import socket
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.deploy.promtool import DEPLOY, ROOT


@pytest.fixture(scope="module")
def healthcheck() -> ModuleType:
    specification = importlib.util.spec_from_file_location("healthcheck", DEPLOY / "healthcheck.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """A port where each caller reads one of `answers`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for each in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(each)

        thread = threading.Thread(target=answer)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join()


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n200", False),
        (b"", False),
        (b"200\r\n", False),
        (b"\x00\xff" * 2000, False),
    ],
)
def test_ready_is_a_status_of_200(healthcheck: ModuleType, answer: bytes, ready: bool) -> None:  # noqa: FBT001 - a row
    is_ready: Callable[[int], bool] = healthcheck.is_ready
    with answering(answer) as port:
        assert is_ready(port) is ready


def test_a_closed_port_is_not_ready(healthcheck: ModuleType) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    assert healthcheck.is_ready(port) is False


def test_a_server_that_says_nothing_is_not_ready(healthcheck: ModuleType) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert healthcheck.is_ready(int(listener.getsockname()[1]), 0.2) is False


def test_the_pinned_packages_are_those_that_the_project_asks_for() -> None:
    lines = (DEPLOY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for text in (*project["dependencies"], *project["optional-dependencies"]["loadtest"]):
        wanted = Requirement(text)
        version = Version(pinned[re.sub(r"[-_.]+", "-", wanted.name).lower()])
        assert wanted.specifier.contains(version), f"{text}, but {version} is pinned: make image-constraints"
