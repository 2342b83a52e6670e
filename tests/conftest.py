"""For all tests: no way out of this machine, and no time limits of Hypothesis, which would test the machine's load."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from server.engine.interface import Engine

settings.register_profile("leeway", deadline=None, derandomize=True)
settings.load_profile("leeway")


class NetworkUsedError(AssertionError):
    """A test that is not an integration test tried to reach another machine."""


def _refuse_other_machines(address: object) -> None:
    if not isinstance(address, tuple):  # a Unix socket's path
        return
    host = str(address[0])
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host in {"", "localhost"}
    if not local:
        message = f"this test tried to reach {host}"
        raise NetworkUsedError(message)


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sockets of this process connect to this machine only, names of other machines are not looked up."""
    if request.node.get_closest_marker("integration"):
        yield
        return
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        _refuse_other_machines(address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        _refuse_other_machines(address)
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_other_machines((host.decode() if isinstance(host, bytes) else host or "",))
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
    yield


# What the tests of engines share; torch and the trainer are imported only where these are asked for.


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Engines on torch set its threads for the whole process; what they were before comes back."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small models of `tests.trainer.models.publish_models`."""
    from tests.trainer.models import publish_models

    root = tmp_path_factory.mktemp("store")
    publish_models(root)
    return root


@pytest.fixture(scope="module")
def engines(store: Path) -> Iterator[Callable[..., Engine]]:
    """Engines by name and model (``int8``, where none is given) in f32, each made once."""
    from tests.trainer.models import fresh

    made: dict[tuple[str, str], Engine] = {}

    def get(name: str, model: str = "int8") -> Engine:
        if (name, model) not in made:
            made[name, model] = fresh(store, name, model)
        return made[name, model]

    yield get
    for engine in made.values():
        engine.close()
