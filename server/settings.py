"""All settings of the server, in one frozen object: the only reader of the environment.

Every field is a variable ``LEEWAY_<FIELD>`` and an option ``--<field>`` of ``leeway serve``; the option wins.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

import model_store

EngineName = Literal["auto", "native", "openvino", "ipex", "reference", "fake"]
Precision = Literal["auto", "f32", "bf16"]
LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


def packaged_store() -> Path:
    """The store that ships with the package and holds the default model."""
    return Path(model_store.__file__).resolve().parent / "artifacts"


def default_profile_dir() -> Path | None:
    """``leeway/profiles`` in ``XDG_CACHE_HOME`` or ``~/.cache``; None for a user without a home."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # such a value is to be ignored, says the XDG base directory specification
        try:
            cache = Path.home() / ".cache"
        except RuntimeError:
            return None
    return cache / "leeway" / "profiles"


class Settings(BaseSettings):
    """Settings of one server process."""

    model_config = SettingsConfigDict(env_prefix="LEEWAY_", frozen=True, extra="forbid", protected_namespaces=())

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=8000, ge=1, le=65535, description="TCP port to listen on.")
    model: str = Field(default="default", min_length=1, description="Model: NAME, NAME@VERSION or NAME@latest.")
    store: Path = Field(default_factory=packaged_store, description="Folder of the model store.")
    engine: EngineName = Field(
        default="auto",
        description="What runs the model; auto: the fastest measured of native, openvino, ipex, as far as installed.",
    )
    precision: Precision = Field(
        default="auto",
        description="Arithmetic beside the int8 products: auto (f32), f32, or bf16 (up to a tenth faster).",
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Threads of one inference; 0 takes the CPU quota of the container or the affinity.",
    )
    profile_dir: Path | None = Field(
        default_factory=default_profile_dir,
        description="Folder of the latency profiles that `leeway calibrate` makes; it need not be there.",
    )
    max_body_bytes: int = Field(
        default=2 * 1024 * 1024,
        ge=1024,
        description="Largest request body in bytes, counted while it streams (413 beyond).",
    )
    body_seconds: float = Field(
        default=30.0, gt=0, le=3600, description="Longest time that a body may take to arrive (408)."
    )
    max_question_chars: int = Field(default=4_000, ge=1, description="Longest question in code points (422 beyond).")
    max_context_chars: int = Field(default=200_000, ge=1, description="Longest context in code points (422 beyond).")
    max_windows: int = Field(
        default=1_200, ge=1, description="Most windows that one request, or one batch, may be cut into (422 beyond)."
    )
    max_batch_items: int = Field(default=64, ge=1, description="Most items of one batch (422 beyond).")
    max_top_k: int = Field(default=50, ge=1, description="Most answers that a caller may ask for (422 beyond).")
    max_queue: int = Field(default=64, ge=0, description="Requests that may wait while one is in work (503 beyond).")
    default_budget_ms: float | None = Field(
        default=None, gt=0, le=3_600_000, description="Latency budget of requests that name none."
    )
    length_config: str | None = Field(
        default=None,
        min_length=1,
        description="Length configuration for every request, in place of routing (a request's own header wins).",
    )
    late_share: float = Field(
        default=0.005,
        gt=0,
        lt=0.5,
        description="Share of admitted requests with a budget that may be late by a stall they could have outlasted.",
    )
    refusal_cost: float = Field(
        default=0.0,
        ge=0,
        le=1_000_000,
        description="Points of F1 that a refusal costs beyond its answer: 0 for the most F1, 100 for the most answers.",
    )
    budget_reserve_ms: float = Field(
        default=1.0,
        ge=0,
        le=1000,
        description="Kept back from each budget for what the server cannot see: accepting, the network, sending.",
    )
    patience_ms: float = Field(
        default=1000.0,
        gt=0,
        le=3_600_000,
        description="When a request without a budget should be served; configurations cheapen to keep to it.",
    )
    slice_ms: float = Field(
        default=40.0,
        gt=0,
        le=60_000,
        description="A longer request is run in parts of about this, between which a more urgent one may go first.",
    )
    text_workers: int = Field(
        default=2, ge=1, le=64, description="Threads for tokenizing and for turning logits into answers."
    )
    drain_seconds: float = Field(
        default=15.0, ge=0, le=3600, description="After SIGTERM, longest time to finish what was already accepted."
    )
    prometheus_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s?#@]+$",
        description="Prometheus that sees the whole fleet; its median trims the latency profile.",
    )
    prometheus_seconds: float = Field(
        default=30.0, gt=0, le=86_400, description="Seconds between two questions to Prometheus."
    )
    prometheus_query: str = Field(
        default="histogram_quantile(0.5, sum by (le) (rate(leeway_service_ratio_bucket[5m])))",
        min_length=1,
        description="PromQL for the fleet's median of observed over profile time: one value.",
    )
    prometheus_count_query: str = Field(
        default="sum(increase(leeway_service_ratio_count[5m]))",
        min_length=1,
        description="PromQL for the number of observations behind that median: one value.",
    )
    log_format: LogFormat = Field(default="console", description="Format of the log on stderr: console or json.")
    log_level: LogLevel = Field(default="info", description="Least severe level that is logged.")
