"""A real Prometheus on the loopback, for tests: Debian's binary, a configuration and data folder of its own."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest


def prometheus_binary(folder: Path) -> Path:
    """The installed binary, or one unpacked from Debian's package into `folder`.

    Unpacking needs no root and, unlike installing, starts no service.  Skips the test where neither can be had.
    """
    installed = shutil.which("prometheus")
    if installed is not None:
        return Path(installed)
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("no prometheus is installed, and this is no Debian to take one from")
    if not _downloaded(folder):
        if os.geteuid() == 0:
            _quietly("apt-get", "update", cwd=folder)
        if os.geteuid() != 0 or not _downloaded(folder):
            pytest.skip("no prometheus is installed, and apt-get download prometheus failed")
    (package,) = folder.glob("prometheus_*.deb")
    _quietly("dpkg-deb", "--extract", str(package), str(folder), cwd=folder)
    return folder / "usr" / "bin" / "prometheus"


def _downloaded(folder: Path) -> bool:
    return _quietly("apt-get", "download", "prometheus", cwd=folder) and any(folder.glob("prometheus_*.deb"))


def _quietly(*command: str, cwd: Path) -> bool:
    """Whether `command` ended well, within minutes."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, stdin=subprocess.DEVNULL, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class PrometheusServer:
    """Scrapes one port of the loopback every second."""

    def __init__(self, binary: Path, folder: Path, target_port: int) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "prometheus.log"
        configuration = folder / "prometheus.yml"
        configuration.write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
            f"scrape_configs: [{{job_name: leeway, static_configs: [{{targets: ['127.0.0.1:{target_port}']}}]}}]\n",
            encoding="utf-8",
        )
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    str(binary),
                    f"--config.file={configuration}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Until it answers queries; fails the test with its log otherwise."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._process.poll() is None:
            if self._is_ready():
                return
            time.sleep(0.1)
        pytest.fail(f"prometheus is not ready:\n{self._log.read_text(errors='replace')[-4000:]}")

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
