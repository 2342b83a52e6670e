"""What a scenario file says: TOML, read strictly.  loadtest/README.md explains every key."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

SCENARIOS = Path(__file__).parent / "scenarios"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Label = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,40}$")]
Percentile = Literal["p50", "p90", "p95", "p99", "p999"]


class ScenarioError(ValueError):
    """A file that is no scenario; the message names the file and every key at fault."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Phase(_Part):
    """A stretch of time with one rate, in the unit of `Arrivals.unit`."""

    name: Label = "all"
    seconds: Annotated[float, Field(gt=0, le=86_400)]
    rate: Annotated[float, Field(ge=0, le=100_000)]


class ArrivalPlan(_Part):
    """When requests come."""

    process: Literal["constant", "poisson", "gamma", "trace"]
    unit: Literal["rps", "capacity"] = "rps"
    cv: Positive | None = None
    phases: tuple[Phase, ...] = ()
    file: Path | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.process == "gamma") != (self.cv is not None):
            raise ValueError("cv belongs to the process gamma, which needs it")
        if (self.process == "trace") != (self.file is not None):
            raise ValueError("file belongs to the process trace, which needs it")
        if (self.process == "trace") == bool(self.phases):
            raise ValueError("phases are needed, but for the process trace, whose file says all")
        if self.process == "trace" and self.unit != "rps":
            raise ValueError("a trace has its own times: no unit")
        if len({each.name for each in self.phases}) < len(self.phases):
            raise ValueError("two phases have the same name")
        return self


class Search(_Part):
    """Find the highest rate that passes: every rate of `arrivals` is multiplied by the one that is tried."""

    start: Positive = 1.0
    attainment: Annotated[float, Field(gt=0, le=1)] = 0.99
    tolerance: Annotated[float, Field(ge=0.005, le=1)] = 0.05
    repeats: Annotated[int, Field(ge=1, le=20)] = 1
    most_probes: Annotated[int, Field(ge=2, le=100)] = 16


class SingleStream(_Part):
    """One request after the other (closed loop)."""

    seconds: Annotated[float, Field(gt=0, le=86_400)]


class LengthClass(_Part):
    """Contexts of one kind: the paragraph as it is, or grown with its neighbours to a log-uniform length."""

    label: Label
    share: Share
    chars: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.chars is not None and not 1 <= self.chars[0] <= self.chars[1]:
            raise ValueError("chars must be [least, most] code points, at least 1")
        return self


class BudgetClass(_Part):
    """Callers of one kind: a budget in milliseconds, one in units of the idle median of full, or none."""

    label: Label
    share: Share
    ms: Annotated[float, Field(gt=0, le=3_600_000)] | None = None
    x_full: Annotated[float, Field(gt=0, le=100_000)] | None = None
    tell: bool = True

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.ms is not None and self.x_full is not None:
            raise ValueError("a budget is given in ms or in x_full, not both")
        return self


class Questions(_Part):
    """What is asked."""

    distinct: Annotated[int, Field(ge=1)] | None = None
    lengths: tuple[LengthClass, ...] = (LengthClass(label="paragraph", share=1.0),)


class Headers(_Part):
    """Further request headers."""

    length_config: Annotated[str, Field(pattern=r"^[!-~]{1,100}$")] | None = None
    policy: Literal["strict", "best-effort"] | None = None


class Seeds(_Part):
    """One per dimension: each can change while the others stay."""

    arrivals: Annotated[int, Field(ge=0)] = 1
    questions: Annotated[int, Field(ge=0)] = 2
    lengths: Annotated[int, Field(ge=0)] = 3
    budgets: Annotated[int, Field(ge=0)] = 4


class GeneratorPlan(_Part):
    """Of the generator itself."""

    max_lag_p99_ms: Positive = 10.0
    connections: Annotated[int, Field(ge=1, le=10_000)] = 16
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    warmup_seconds: Annotated[float, Field(ge=0, le=3600)] = 2.0
    capacity_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0


class RunLimits(_Part):
    """What must hold of a set of requests.  Latencies are of all offered; one without an answer takes for ever."""

    min_slo_attainment: Share | None = None
    min_effective_f1: Annotated[float, Field(ge=0, le=100)] | None = None
    min_goodput: Positive | None = None
    max_failed_share: Share | None = None
    max_latency_ms: dict[Percentile, Positive] = {}


class Limits(RunLimits):
    """What must hold for a scenario to pass."""

    min_rate: Positive | None = None
    max_drift: Positive | None = None
    phases: dict[Label, RunLimits] = {}
    budgets: dict[Label, RunLimits] = {}


class Scenario(_Part):
    """One scenario."""

    name: Label
    about: Annotated[str, Field(min_length=1)]
    arrivals: ArrivalPlan | None = None
    search: Search | None = None
    single_stream: SingleStream | None = None
    questions: Questions = Questions()
    budgets: Annotated[tuple[BudgetClass, ...], Field(min_length=1)]
    headers: Headers = Headers()
    seeds: Seeds = Seeds()
    generator: GeneratorPlan = GeneratorPlan()
    limits: Limits = Limits()

    @property
    def needs_capacity(self) -> bool:
        """Whether rates or budgets are given in units that are measured first."""
        in_capacity = self.arrivals is not None and self.arrivals.unit == "capacity"
        return in_capacity or any(each.x_full is not None for each in self.budgets)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.arrivals is None) == (self.single_stream is None):
            raise ValueError("a scenario has either arrivals or single_stream")
        self._check_search()
        for what, classes in (("budgets", self.budgets), ("questions.lengths", self.questions.lengths)):
            if not math.isclose(sum(each.share for each in classes), 1.0, abs_tol=1e-9):
                raise ValueError(f"the shares of {what} must add up to 1")
            if len({each.label for each in classes}) < len(classes):
                raise ValueError(f"two of {what} have the same label")
        self._check_limits()
        return self

    def _check_search(self) -> None:
        if self.search is None:
            if self.limits.min_rate is not None:
                raise ValueError("limits.min_rate belongs to a search")
            return
        if self.arrivals is None or self.arrivals.process == "trace":
            raise ValueError("a search needs arrivals whose rate can be changed")

    def _check_limits(self) -> None:
        phases = {each.name for each in self.arrivals.phases} if self.arrivals is not None else set()
        budgets = {each.label for each in self.budgets}
        for what, given, known in (
            ("phases", set(self.limits.phases), phases),
            ("budgets", set(self.limits.budgets), budgets),
        ):
            if given - known:
                raise ValueError(f"limits.{what} names {', '.join(sorted(given - known))}, which is none of {what}")


def read_scenario(given: str | Path) -> Scenario:
    """The scenario in a file, or the one of that name that comes with this package.

    Raises:
        ScenarioError: there is no such file, or it is no scenario.
    """
    path = Path(given)
    if path.suffix != ".toml":
        path = SCENARIOS / f"{given}.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(sorted(each.stem for each in SCENARIOS.glob("*.toml")))
        raise ScenarioError(f"{path}: {error.strerror or error} (scenarios by name: {known})") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ScenarioError(f"{path}: no TOML: {error}") from error
    try:
        found = Scenario.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        problems = "; ".join(
            f"{_place(each['loc'])}: {each['msg'].removeprefix('Value error, ')}" for each in error.errors()
        )
        raise ScenarioError(f"{path}: {problems}") from error
    return _with_trace_beside(found, path.parent)


def _place(location: tuple[int | str, ...]) -> str:
    parts = [f"[{each}]" if isinstance(each, int) else f".{each}" for each in location]
    return "".join(parts).lstrip(".") or "the scenario"


def _with_trace_beside(scenario: Scenario, folder: Path) -> Scenario:
    """A trace's path counts from the scenario's folder."""
    if scenario.arrivals is None or scenario.arrivals.file is None:
        return scenario
    arrivals = scenario.arrivals.model_copy(update={"file": folder / scenario.arrivals.file})
    return scenario.model_copy(update={"arrivals": arrivals})


def pinned(scenario: Scenario, length_config: str) -> Scenario:
    """The scenario with every request pinned to a length configuration, and named so; itself if none is given.

    Raises:
        ScenarioError: no id of a length configuration.
    """
    if not length_config:
        return scenario
    try:
        headers = Headers(length_config=length_config, policy=scenario.headers.policy)
    except ValidationError as error:
        raise ScenarioError(f"no id of a length configuration: {length_config!r:.40}") from error
    return scenario.model_copy(update={"name": f"{scenario.name}-{length_config}", "headers": headers})
