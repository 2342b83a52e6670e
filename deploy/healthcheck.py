"""Whether the server in this container takes questions: status 0 if so, 1 if not.

A bare socket in place of an HTTP library: it runs every few seconds beside the inference, and starts in a
fraction of the time.
"""

from __future__ import annotations

import os
import socket
import sys

REQUEST = b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def is_ready(port: int, seconds: float = 2.0) -> bool:
    """Ask ``/health/ready`` on the loopback."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
            connection.sendall(REQUEST)
            status, _, _ = connection.makefile("rb").readline(1000).partition(b"\r\n")
    except OSError:
        return False
    return status.split()[1:2] == [b"200"]


if __name__ == "__main__":
    sys.exit(0 if is_ready(int(os.environ.get("LEEWAY_PORT", "8000"))) else 1)
