"""A real Prometheus on the loopback address, with a configuration and a data folder of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks.server_process import HOST, BenchmarkError, free_port

JOB = "leeway"
"""Name of the one scrape job."""

_READY_SECONDS = 60.0
_STOP_SECONDS = 20.0
_LOG_CHARS = 4000


class PrometheusServer:
    """Scrapes one port of the loopback every second; call `stop` at the end.

    Args:
        binary: to run.
        folder: for its configuration, data and log; it must exist.
        target_port: of what is scraped.
        rules: files of recording and alerting rules, evaluated every second.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, binary: Path, folder: Path, target_port: int, rules: Sequence[Path] = ()) -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._log = folder / "prometheus.log"
        configuration = folder / "prometheus.yml"
        # JSON is YAML
        settings = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(each.absolute()) for each in rules],
            "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": [f"{HOST}:{target_port}"]}]}],
        }
        configuration.write_text(json.dumps(settings), encoding="utf-8")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the caller's own choice of a binary
                [
                    str(binary),
                    f"--config.file={configuration}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={HOST}:{self.port}",
                ],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self, seconds: float = _READY_SECONDS) -> None:
        """Until it answers queries.

        Raises:
            BenchmarkError: it ended, or the time has passed; with the end of its log.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._process.poll() is None:
            if self._get("/-/ready")[0] == 200:
                return
            time.sleep(0.1)
        raise BenchmarkError(f"prometheus is not ready:\n{self._log.read_text(errors='replace')[-_LOG_CHARS:]}")

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Mapping[str, Any]]:
        """Series of `expression` from `start` to `end` (Unix seconds), a value every `step` seconds.

        Returns:
            ``{"metric": labels, "values": [[seconds, "value"], ...]}`` each, as Prometheus' HTTP API gives them.

        Raises:
            BenchmarkError: it did not answer, or not with series.
        """
        wanted = urlencode({"query": expression, "start": start, "end": end, "step": step})
        status, body = self._get(f"/api/v1/query_range?{wanted}")
        if status != 200:
            raise BenchmarkError(f"prometheus refused {expression!r}: {body[:_LOG_CHARS].decode(errors='replace')}")
        found: list[Mapping[str, Any]] = json.loads(body)["data"]["result"]
        return found

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _get(self, path: str) -> tuple[int, bytes]:
        """Status and body; 0 where there was no answer."""
        with contextlib.closing(http.client.HTTPConnection(HOST, self.port, timeout=30)) as connection:
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException):
                return 0, b""
