"""The image, built from the Dockerfile and run: small, not root, read-only, asked, drained."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.server_process import free_port
from server.engine.native import obstacle as native_obstacle
from tests.integration.containers import ROOT, Container, Containers, command, containers

SERVER = "localhost/leeway-test:server"
IPEX = "localhost/leeway-test:ipex"
LOADTEST = "localhost/leeway-test:loadtest"
MOST_BYTES = 700_000_000
READY_SECONDS = 180.0
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")  # noqa: S108 - inside the container
OWN = {"question": "Where was the tower built?", "context": "The tower was built in Lyon between 1880 and 1884."}


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    found = containers(tmp_path_factory.mktemp("containers"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def image(tool: Containers) -> str:
    began = time.monotonic()
    built = tool.build(SERVER, "--target", "server")
    assert built.returncode == 0, built.stdout[-8000:]
    size = tool.image(SERVER)["Size"]
    print(f"\nimage: {size / 1e6:.0f} MB, built in {time.monotonic() - began:.0f} s")  # noqa: T201 - a report
    return SERVER


@pytest.fixture
def server(tool: Containers, image: str) -> Iterator[Container]:
    """As docker-compose.yml runs it."""
    container = tool.start(image, free_port(), *HARDENED)
    wait_until_ready(container)
    yield container
    tool.do("rm", "--force", container.name)


def wait_until_ready(container: Container) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and container.state["Running"]:
        try:
            if call(container.port, "GET", "/health/ready")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    pytest.fail(f"the container is not ready:\n{container.log}")


def call(port: int, method: str, path: str, body: object = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def health(container: Container, tool: Containers) -> int:
    """Status of the image's own health check."""
    described = tool.image(SERVER)
    check = described.get("Healthcheck") or described["Config"]["Healthcheck"]  # podman's place, and Docker's
    kind, *words = check["Test"]
    assert kind == "CMD"
    return container.execute(*words).returncode


def test_the_image_is_small_and_not_root(tool: Containers, image: str) -> None:
    described = tool.image(image)
    assert described["Size"] < MOST_BYTES
    assert described["Config"]["User"] == "10001:10001"
    assert described["Config"]["StopSignal"] == "SIGTERM"
    assert described["Config"].get("Volumes") is None


def test_it_answers_with_the_default_model_on_a_read_only_root(tool: Containers, server: Container) -> None:
    status, body = call(server.port, "POST", "/qa", OWN)
    assert status == 200
    assert body["answers"][0]["text"] == "Lyon"
    assert body["model"]["name"] == "default"
    assert server.execute("id", "-u").stdout.split()[-1] == "10001"
    assert server.execute("python3", "-c", "open('/opt/here', 'w')").returncode != 0
    assert health(server, tool) == 0


def test_the_kernels_are_inside_and_their_compiler_is_not(server: Container) -> None:
    program = (
        "import ctypes, pathlib, server.engine as engine; "
        "kernels = pathlib.Path(engine.__file__).parent / 'kernels'; "
        "print(*sorted(path.name for path in kernels.glob('*.so')), "
        "ctypes.CDLL(str(kernels / 'libleeway_native_avx2.so')).leeway_native_version())"
    )
    loaded = server.execute("python3", "-c", program)
    assert loaded.returncode == 0, loaded.stdout
    *libraries, version = loaded.stdout.split()[-3:]
    assert libraries == ["libleeway_native_avx2.so", "libleeway_native_avx512.so"]
    assert int(version) >= 1
    assert "ziglang" not in server.execute("find", "/", "-xdev", "-name", "ziglang*").stdout


def test_stopping_drains_and_ends_with_status_0(server: Container) -> None:
    long = {"question": OWN["question"], "context": OWN["context"] + " It was moved to Paris in 1901." * 1500}
    answers: list[tuple[int, Any]] = []
    asking = threading.Thread(target=lambda: answers.append(call(server.port, "POST", "/qa", long)))
    asking.start()
    wait_until_busy(server.port)
    server.stop()
    asking.join()
    assert server.state["ExitCode"] == 0, server.log
    (answer,) = answers
    assert answer[0] == 200, answer
    assert "Traceback" not in server.log


def wait_until_busy(port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        if "leeway_requests_in_flight 1.0" in text:
            return
        time.sleep(0.01)
    pytest.fail("the question did not arrive")


def test_the_health_check_fails_before_the_server_listens(tool: Containers, image: str) -> None:
    container = tool.start(image, free_port(), "--entrypoint", "sleep", words=["60"])
    assert health(container, tool) == 1
    container.stop(0)


def test_a_cpu_limit_is_seen(tool: Containers, image: str) -> None:
    container = tool.start(image, free_port(), *HARDENED, "--cpus", "1", "--memory", "1g")
    wait_until_ready(container)
    engine = call(container.port, "GET", "/info")[1]["engine"]
    assert engine["threads"] == 1
    assert "native" in f"{engine['name']} {engine['reason']}" or native_obstacle()
    assert call(container.port, "POST", "/qa", OWN)[0] == 200
    container.stop()
    assert container.state["ExitCode"] == 0


def test_a_profile_is_kept_in_the_mounted_folder(tool: Containers, image: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)  # the user of the container writes there
    volume = ("--volume", f"{tmp_path}:/profiles")
    done = tool.run(image, *HARDENED, *volume, words=["calibrate", "--seconds", "40"])
    assert done.returncode == 0, done.stdout
    assert len(list(tmp_path.glob("profile-*.json"))) == (1 if native_obstacle() else 2)  # of openvino, of native
    container = tool.start(image, free_port(), *HARDENED, *volume)
    wait_until_ready(container)
    assert "latency profile: calibrated" in container.log
    container.stop()


def test_a_model_that_is_not_there_ends_with_status_1(tool: Containers, image: str) -> None:
    container = tool.start(image, free_port(), *HARDENED, "--env", "LEEWAY_MODEL=nobody")
    assert container.wait_until_exited(60) == 1
    assert "nobody" in container.log


def test_an_engine_that_there_is_not_is_refused(tool: Containers) -> None:
    built = tool.build("localhost/leeway-test:refused", "--build-arg", "ENGINE=gpu", "--target", "server")
    assert built.returncode != 0
    assert "no such engine" in built.stdout


@pytest.mark.skipif("LEEWAY_IPEX_IMAGE" not in os.environ, reason="an image of many GB; LEEWAY_IPEX_IMAGE=1 builds it")
def test_the_image_with_ipex_answers(tool: Containers) -> None:
    index = os.environ.get("LEEWAY_TORCH_INDEX", "")  # not every machine reaches the index of torch's CPU builds
    built = tool.build(IPEX, "--build-arg", "ENGINE=ipex", "--build-arg", f"TORCH_INDEX={index}", "--target", "server")
    assert built.returncode == 0, built.stdout[-8000:]
    container = tool.start(IPEX, free_port(), *HARDENED)
    wait_until_ready(container)
    assert call(container.port, "GET", "/info")[1]["engine"]["name"] == "ipex"
    status, answer = call(container.port, "POST", "/qa", OWN)
    assert status == 200, answer
    container.stop()


@pytest.mark.skipif(not (ROOT / "loadtest/locustfile.py").is_file(), reason="there is no loadtest/locustfile.py yet")
def test_the_load_generator_starts(tool: Containers) -> None:
    built = tool.build(LOADTEST, "--target", "loadtest")
    assert built.returncode == 0, built.stdout[-8000:]
    done = tool.run(LOADTEST, *HARDENED, words=["-f", "loadtest/locustfile.py", "--list"])
    assert done.returncode == 0, done.stdout
    assert "Available Users" in done.stdout


def test_compose_reads_its_file() -> None:
    if command("docker", "compose", "version").returncode != 0:
        pytest.skip("no docker compose here")
    done = command("docker", "compose", "--profile", "load", "config", "--quiet")
    assert done.returncode == 0, done.stdout
