"""Engines by name.  Each engine's runtime is imported inside that engine's module, and only when it is asked for."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, cast

from server.engine.interface import Engine, EngineUnavailableError
from server.engine.skimmer import make_skimmer
from server.engine.skimming import SkimmingEngine
from server.engine.threads import available_threads

if TYPE_CHECKING:
    from model_store.artifact import Artifact

ENGINES = ("native", "openvino", "ipex", "reference", "fake")
PRECISIONS = ("auto", "f32", "bf16")

NATIVE_LIBRARIES = {
    level: Path(__file__).with_name("kernels") / f"libleeway_native_{level}.so" for level in ("avx512", "avx2")
}
"""What the build makes of ``kernels/`` (hatch_build.py), by level of instructions, the better first."""

_PACKAGES = {"openvino": "openvino", "ipex": "intel_extension_for_pytorch"}
"""Engines made for speed, beside the native one, and the package that each needs."""

_INSTALL = {
    "openvino": "install it with: pip install leeway-qa",
    "ipex": "install it in an environment of its own with: pip install 'leeway-qa[ipex]'",
    "reference": "install it with: pip install 'leeway-qa[train]'",
}


def create_engine(name: str, artifact: Artifact, *, threads: int = 0, precision: str = "auto") -> Engine:
    """Load `artifact` into the engine called `name`.

    Args:
        name: one of `ENGINES`.
        artifact: the model; where it has a skimmer, the engine skims texts as configurations ask.
        threads: threads of one call; 0 takes what this process may use (`available_threads`).
        precision: one of `PRECISIONS`, for what is not computed in int8.

    Raises:
        EngineUnavailableError: an unknown name or precision, a runtime that is not installed, or a
            precision that this engine or this machine cannot run.  Never a silent fallback.
    """
    if name not in ENGINES:
        raise EngineUnavailableError(f"there is no engine {name!r}; the engines are {', '.join(ENGINES)}")
    if precision not in PRECISIONS:
        raise EngineUnavailableError(f"there is no precision {precision!r}; known are {', '.join(PRECISIONS)}")
    if threads < 0:
        raise EngineUnavailableError(f"threads must not be negative, got {threads}")
    engine = _create(name, artifact, threads or available_threads(), precision)
    if not artifact.has_skimmer:
        return engine
    tensors = artifact.load_skimmer()
    return SkimmingEngine(engine, make_skimmer(tensors), artifact.manifest.architecture, tensors.get("margin"))


def _create(name: str, artifact: Artifact, count: int, precision: str) -> Engine:
    if name == "native":
        return cast(Engine, _engine_class(name, "NativeEngine")(artifact, threads=count, precision=precision))
    if name == "openvino":
        return cast(Engine, _engine_class(name, "OpenVinoEngine")(artifact, threads=count, precision=precision))
    if precision == "bf16":
        raise EngineUnavailableError(f"the engine {name} computes in f32 only; precision bf16 needs native or openvino")
    if name == "ipex":
        return cast(Engine, _engine_class(name, "IpexEngine")(artifact, threads=count))
    if name == "reference":
        return cast(Engine, _engine_class(name, "ReferenceEngine")(artifact, threads=count))
    return cast(Engine, _engine_class(name, "FakeEngine")(artifact.manifest.architecture, threads=count))


def installed_engines() -> tuple[str, ...]:
    """Engines made for serving that were built or whose packages this Python has, none of them loaded."""
    found = tuple(name for name, package in _PACKAGES.items() if importlib.util.find_spec(package) is not None)
    return ("native", *found) if any(path.exists() for path in NATIVE_LIBRARIES.values()) else found


def _engine_class(name: str, class_name: str) -> type:
    """The class of an engine, its runtime imported now."""
    try:
        module = importlib.import_module(f"server.engine.{name}")
    except ImportError as error:
        missing = error.name or str(error)
        raise EngineUnavailableError(
            f"the engine {name} needs the package {missing!r}, which this Python does not have; "
            f"{_INSTALL.get(name, '')}"
        ) from error
    return cast(type, getattr(module, class_name))
