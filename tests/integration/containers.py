"""Images built and containers run for real: with Docker where a daemon answers, else with buildah and podman.

Where no registry is reached, Debian's own Python stands in for ``python:3.11-slim`` (Debian 12 has 3.11, too).
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BASE_IMAGE = "docker.io/library/python:3.11-slim"
STAND_IN = ROOT / ".cache" / "containers" / "debian-12-python.tar"
STAND_IN_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
BUILD_SECONDS = 1800


def command(*words: str | Path, seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Run to its end; output of both kinds together."""
    return subprocess.run(
        [str(word) for word in words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )


class PipConfiguration:
    """pip's settings on this machine, for the pip inside a build: a file, and the paths that it names."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "pip.conf"
        listed = command(sys.executable, "-m", "pip", "config", "list").stdout
        options = {}
        for line in listed.splitlines():  # global.cert='...' and, from the environment, :env:.cert='...'
            found = re.fullmatch(r"(?:global|install|:env:)\.([a-z-]+)='(.*)'", line.strip())
            if found is not None and found[1] not in {"config-file", "target", "prefix", "user", "require-virtualenv"}:
                options[found[1]] = found[2]
        self.paths = sorted({path for value in options.values() for word in value.split() for path in _path_of(word)})
        parser = configparser.ConfigParser(interpolation=None)
        parser["global"] = {name: value.replace("\\n", " ") for name, value in options.items()}
        with self.file.open("w", encoding="utf-8") as file:
            parser.write(file)


def _path_of(word: str) -> list[str]:
    """The path that a setting of pip names, if it names one."""
    # Beside an index of files lies what its pages link to.
    path = Path(word.removeprefix("file://")).parent if word.startswith("file://") else Path(word)
    return [str(path)] if path.is_absolute() and path.exists() else []


class Container:
    """One that runs; removed by `Containers.close`."""

    def __init__(self, tool: Containers, name: str, port: int) -> None:
        self._tool = tool
        self.name = name
        self.port = port

    def execute(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self._tool.do("exec", self.name, *words)

    def stop(self, seconds: int = 10) -> None:
        """SIGTERM, and SIGKILL after `seconds`, as ``docker stop`` does."""
        self._tool.must("stop", "-t", str(seconds), self.name)

    @property
    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self._tool.must("inspect", "--format", "{{json .State}}", self.name))
        return state

    @property
    def log(self) -> str:
        return self._tool.do("logs", self.name).stdout

    def wait_until_exited(self, seconds: float = 30.0) -> int:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            state = self.state
            if not state["Running"]:
                return int(state["ExitCode"])
            time.sleep(0.1)
        pytest.fail(f"{self.name} still runs:\n{self.log}")


class Containers:
    """Build, run, look, remove: the words that Docker and podman share."""

    extra_run: Sequence[str] = ()

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pip = PipConfiguration(folder)
        self._names: list[str] = []

    def run_words(self) -> list[str]:
        raise NotImplementedError

    def build_words(self) -> list[str]:
        raise NotImplementedError

    def do(self, *words: str, seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
        return command(*self.run_words(), *words, seconds=seconds)

    def must(self, *words: str, seconds: float = 120.0) -> str:
        done = self.do(*words, seconds=seconds)
        assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stdout}"
        # podman's warnings come on the same stream, before the answer
        lines = [line for line in done.stdout.splitlines() if not line.startswith("time=")]
        return "\n".join(lines).strip()

    def build(self, tag: str, *options: str) -> subprocess.CompletedProcess[str]:
        secret = ("--secret", f"id=pip,src={self.pip.file}")
        return command(*self.build_words(), *secret, *options, "--tag", tag, ".", seconds=BUILD_SECONDS)

    def image(self, tag: str) -> dict[str, Any]:
        described: dict[str, Any] = json.loads(self.must("image", "inspect", tag))[0]
        return described

    def start(self, tag: str, port: int, *options: str, words: Sequence[str] = ()) -> Container:
        """In the network of this host, where the server listens at `port`."""
        name = f"leeway-test-{port}"
        self._names.append(name)
        network = ("--network", "host", "--env", f"LEEWAY_PORT={port}", "--env", "LEEWAY_HOST=127.0.0.1")
        self.must("run", "--detach", "--name", name, *network, *self.extra_run, *options, tag, *words)
        return Container(self, name, port)

    def run(self, tag: str, *options: str, words: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """To its end."""
        return self.do("run", "--rm", "--network", "host", *self.extra_run, *options, tag, *words, seconds=600)

    def close(self) -> None:
        for name in self._names:
            self.do("rm", "--force", name)


class Docker(Containers):
    """A daemon that answers."""

    def run_words(self) -> list[str]:
        return ["docker"]

    def build_words(self) -> list[str]:
        return ["docker", "build"]


class Podman(Containers):
    """buildah and podman with a store of their own in `folder`: nothing of this machine's is touched."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._store = ["--root", f"{folder}/store", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]
        runtime = ["--runtime", "runc"] if shutil.which("runc") else []  # crun does not do cgroup version 1
        self._podman = ["podman", *self._store, *runtime, "--cgroup-manager", "cgroupfs"]
        # Sandboxes may have lower hard limits than podman asks for by default.
        self.extra_run = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
        self._provide_base_image()

    def run_words(self) -> list[str]:
        return self._podman

    def build_words(self) -> list[str]:
        volumes = [word for path in self.pip.paths for word in ("--volume", f"{path}:{path}:ro")]
        return ["buildah", *self._store, "bud", "--format", "docker", "--pull-never", "--isolation", "chroot", *volumes]

    def close(self) -> None:
        super().close()
        for path in (self.folder / "store", self.folder / "run"):
            command("umount", "--recursive", path / "vfs")
            shutil.rmtree(path, ignore_errors=True)

    def _buildah(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return command("buildah", *self._store, *words, seconds=600)

    def _provide_base_image(self) -> None:
        if self._buildah("pull", BASE_IMAGE).returncode == 0:
            return
        if not STAND_IN.is_file():
            _make_stand_in()
        made = self._buildah("from", "--name", "stand-in", "scratch")
        for words in (("add", "stand-in", STAND_IN, "/"), ("commit", "stand-in", BASE_IMAGE), ("rm", "stand-in")):
            made = made if made.returncode else self._buildah(*words)
        if made.returncode:
            pytest.skip(f"buildah cannot make an image here: {made.stdout.strip()[-300:]}")


def _make_stand_in() -> None:
    """A root file system of Debian 12 with its Python, kept for the next run."""
    if shutil.which("debootstrap") is None:
        pytest.skip(f"no registry to take {BASE_IMAGE} from, and no debootstrap to make a stand-in with")
    STAND_IN.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STAND_IN.parent) as folder:
        include = f"--include={STAND_IN_PACKAGES}"
        made = command("debootstrap", "--variant=minbase", include, "bookworm", f"{folder}/root", seconds=1800)
        if made.returncode:
            pytest.skip(f"no registry to take {BASE_IMAGE} from, and debootstrap failed: {made.stdout.strip()[-300:]}")
        command("tar", "-C", f"{folder}/root", "-cf", f"{folder}/root.tar", ".", seconds=600).check_returncode()
        Path(folder, "root.tar").replace(STAND_IN)


def containers(folder: Path) -> Containers:
    """What can be used here; skips the test, with the reason, where nothing can."""
    if shutil.which("docker") and command("docker", "info", "--format", "{{.ServerVersion}}").returncode == 0:
        return Docker(folder)
    if os.geteuid() != 0:
        pytest.skip("no Docker daemon answers, and without root buildah and podman are not tried")
    if not _podman_is_here():
        pytest.skip("no Docker daemon answers, and buildah or podman is missing: make container-tools")
    return Podman(folder)


def _podman_is_here() -> bool:
    return shutil.which("buildah") is not None and shutil.which("podman") is not None
