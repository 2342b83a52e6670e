"""Which engine `auto` takes: engines are fakes whose times the test gives, and no real time is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model_store import Artifact, LengthConfiguration, ModelStore
from server import choosing
from server.choosing import NAMED, choose_engine, engines_to_calibrate, measured_times, stored_times
from server.engine.fake import FakeEngine
from server.engine.interface import EngineResult, EngineUnavailableError, WindowTokens
from server.engine.processor import processor_name
from server.profiles import load_profiles, store_profile
from server.routing.profile import PROBED, LatencyProfile
from server.settings import Settings
from tests.model_store.tiny_artifact import publish_tiny
from tests.server.fixtures import fake_model, tiny_profile, tiny_settings

MILLISECOND = 1_000_000


class TimedEngine(FakeEngine):
    """Says that a call took the time that it is given, and longer the first times."""

    def __init__(self, artifact: Artifact, took_ms: float) -> None:
        super().__init__(artifact.manifest.architecture)
        self._took_ns = round(took_ms * MILLISECOND)

    def run(self, windows: Sequence[WindowTokens], configuration: LengthConfiguration) -> EngineResult:
        first = self.calls < 3
        return replace(super().run(windows, configuration), inference_ns=self._took_ns * (100 if first else 1))


class Factory:
    """Stands for `create_engine`: engines of the times given, unavailable without one."""

    def __init__(self, **times_ms: float | None) -> None:
        self.times_ms = times_ms
        self.made: dict[str, TimedEngine] = {}

    def __call__(self, name: str, artifact: Artifact, **_: Any) -> TimedEngine:
        took_ms = self.times_ms[name]
        if took_ms is None:
            raise EngineUnavailableError(f"no {name} here")
        self.made[name] = TimedEngine(artifact, took_ms)
        return self.made[name]


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    publish_tiny(tmp_path / "store")
    return ModelStore(tmp_path / "store").load("tiny")


@pytest.fixture(autouse=True)
def both_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "openvino", "ipex")


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(choosing, "installed_engines", lambda: names)


def auto(folder: Path | None = None, **changes: Any) -> Settings:
    return tiny_settings(engine="auto", profile_dir=folder, threads=1, **changes)


def profile_of(artifact: Artifact, engine: str, factor: float, **changes: Any) -> LatencyProfile:
    tiny = tiny_profile(fake_model())
    key = replace(
        tiny.key, artifact=artifact.digest, engine=engine, precision="int8+f32", cpu=processor_name(), threads=1
    )
    times = tuple(tuple(each * factor for each in row) for row in tiny.window_ns)
    return replace(tiny, **{"key": key, "window_ns": times, **changes})


def test_an_engine_that_is_named_is_taken_and_no_other_is_looked_at(artifact: Artifact) -> None:
    factory = Factory(ipex=9.0)
    choice = choose_engine(tiny_settings(engine="ipex"), artifact, create=factory)
    assert (choice.engine, choice.reason) == (factory.made["ipex"], NAMED)
    with pytest.raises(EngineUnavailableError, match="no ipex here"):
        choose_engine(tiny_settings(engine="ipex"), artifact, create=Factory(ipex=None))


def test_the_only_engine_is_taken_without_a_measurement(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "openvino")
    factory = Factory(openvino=1.0)
    choice = choose_engine(auto(), artifact, create=factory)
    assert choice.reason == "the only engine that is installed"
    assert factory.made["openvino"].calls == 0


def test_the_only_engine_that_runs_here_is_taken_without_a_measurement(artifact: Artifact) -> None:
    factory = Factory(openvino=1.0, ipex=None)
    choice = choose_engine(auto(), artifact, create=factory)
    assert choice.reason == "the only engine that runs here"
    assert factory.made["openvino"].calls == 0


def test_if_none_runs_the_reasons_of_all_are_told(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineUnavailableError, match="no openvino here; no ipex here"):
        choose_engine(auto(), artifact, create=Factory(openvino=None, ipex=None))
    install(monkeypatch)
    with pytest.raises(EngineUnavailableError, match="no engine is installed"):
        choose_engine(auto(), artifact, create=Factory())


@pytest.mark.parametrize(("openvino", "ipex", "best"), [(2.0, 3.0, "openvino"), (3.0, 2.0, "ipex")])
def test_without_profiles_the_fastest_measured_stays_and_the_other_is_freed(
    artifact: Artifact, openvino: float, ipex: float, best: str
) -> None:
    factory = Factory(openvino=openvino, ipex=ipex)
    choice = choose_engine(auto(), artifact, create=factory)
    assert choice.engine is factory.made[best]
    assert choice.reason.startswith(f"fastest measured at start-up: {best} 2.00 ms, ")
    assert {name: engine.closed for name, engine in factory.made.items()} == {
        "openvino": best != "openvino",
        "ipex": best != "ipex",
    }


def test_a_slow_host_is_measured_once_and_no_longer(artifact: Artifact) -> None:
    engines = Factory(openvino=1.0, ipex=1.0)
    made = {name: engines(name, artifact) for name in ("openvino", "ipex")}
    ticks = iter(range(0, 1000 * 1_000_000_000, 3_000_000_000))
    measured_times(made, artifact, lambda: next(ticks))
    cells = len({0, len(artifact.table.points) // 2, len(artifact.table.points) - 1})
    assert made["ipex"].calls == cells * (choosing._FIRST_CALLS + 1)


@pytest.mark.parametrize("best", ["openvino", "ipex"])
def test_stored_profiles_decide_without_a_measurement(artifact: Artifact, tmp_path: Path, best: str) -> None:
    for name in ("openvino", "ipex"):
        store_profile(tmp_path / "profiles", profile_of(artifact, name, 1.0 if name == best else 2.0))
    factory = Factory(openvino=1.0, ipex=1.0)
    choice = choose_engine(auto(tmp_path / "profiles"), artifact, create=factory)
    assert list(factory.made) == [best]
    assert factory.made[best].calls == 0
    assert choice.reason.startswith(f"fastest in the stored latency profiles: {best} ")


def test_where_the_best_of_the_stored_profiles_does_not_load_another_engine_runs(
    artifact: Artifact, tmp_path: Path
) -> None:
    for name, took in (("openvino", 2.0), ("ipex", 1.0)):
        store_profile(tmp_path / "profiles", profile_of(artifact, name, took))
    factory = Factory(openvino=1.0, ipex=None)
    choice = choose_engine(auto(tmp_path / "profiles"), artifact, create=factory)
    assert choice.engine is factory.made["openvino"]


def test_profiles_of_something_else_decide_nothing(artifact: Artifact, tmp_path: Path) -> None:
    right = profile_of(artifact, "ipex", 1.0)
    others = [
        replace(right, measured=PROBED),
        *(
            replace(right, key=replace(right.key, **change))
            for change in ({"artifact": "sha256:0"}, {"cpu": "another"}, {"threads": 2}, {"precision": "int8+bf16"})
        ),
    ]
    for profile in others:
        store_profile(tmp_path / "p", profile)
    assert len(load_profiles(tmp_path / "p")) == len(others)
    assert stored_times(auto(tmp_path / "p"), artifact) == {}
    assert set(stored_times(auto(tmp_path / "p", precision="bf16"), artifact)) == {"ipex"}
    assert stored_times(auto(tmp_path / "none"), artifact) == stored_times(auto(None), artifact) == {}
    store_profile(tmp_path / "p", right)
    assert set(stored_times(auto(tmp_path / "p"), artifact)) == {"ipex"}


def test_damaged_and_renamed_profiles_are_passed_over(artifact: Artifact, tmp_path: Path) -> None:
    path = store_profile(tmp_path, profile_of(artifact, "ipex", 1.0))
    (tmp_path / "profile-0.json").write_bytes(path.read_bytes())
    path.write_text("{")
    assert load_profiles(tmp_path) == []


def test_calibration_measures_every_installed_engine_under_auto_only() -> None:
    assert engines_to_calibrate(auto()) == ("openvino", "ipex")
    assert engines_to_calibrate(tiny_settings(engine="reference")) == ("reference",)
