"""The guard that keeps tests on this machine."""

from __future__ import annotations

import socket

import pytest

from tests.conftest import NetworkUsedError


def test_reaching_another_machine_fails() -> None:
    with socket.socket() as sock, pytest.raises(NetworkUsedError):
        sock.connect(("192.0.2.1", 80))  # an address kept for documentation (RFC 5737)


def test_looking_up_another_machine_fails() -> None:
    with pytest.raises(NetworkUsedError):
        socket.getaddrinfo("example.org", 80)


def test_this_machine_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
