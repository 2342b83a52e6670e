"""Writes an ONNX file in a process of its own, so that no worker keeps torch in its memory.

``python -m benchmarks.peers.exports MODEL FORM FILE STORE SPEC``
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.server_process import BenchmarkError, without_settings

FORMS = ("fp32", "int8", "int8_fused")

_ROOT = Path(__file__).resolve().parents[2]
_ERROR_LINES = 6


def export(model: str, form: str, path: Path, store: Path, spec: str) -> None:
    """Have `path` written.

    Args:
        model: see `hugging_face.load_bert`.
        form: one of `FORMS`.
        path: of the ONNX file.
        store: of the artifact.
        spec: NAME or NAME@VERSION.

    Raises:
        BenchmarkError: it cannot be done, for example for want of the package onnx.
    """
    arguments = (model, form, str(path), str(store.absolute()), spec)
    done = subprocess.run(  # noqa: S603 - this project's own module
        [sys.executable, "-m", "benchmarks.peers.exports", *arguments],
        env={**without_settings(), "PYTHONPATH": str(_ROOT)},
        cwd=path.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not path.is_file():
        end = "\n".join(done.stderr.splitlines()[-_ERROR_LINES:])
        raise BenchmarkError(f"{model} cannot be exported to ONNX ({form}); is the extra `bench` installed?\n{end}")


def write(model: str, form: str, path: Path, store: Path, spec: str) -> None:
    """Write `path` in this process; takes what `export` takes."""
    from benchmarks.peers import hugging_face
    from benchmarks.peers.weights import architecture_of
    from model_store import ModelStore

    found = ModelStore(store)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        plain, fused = Path(folder) / "plain.onnx", Path(folder) / "fused.onnx"
        hugging_face.export_onnx(hugging_face.load_bert(model, found, spec, "eager"), plain)
        if form == "fp32":
            os.replace(plain, path)  # noqa: PTH105 - within one file system
            return
        if form == "int8_fused":
            hugging_face.fuse_onnx(plain, fused, architecture_of(model, found, spec))
        hugging_face.quantize_onnx(fused if form == "int8_fused" else plain, path)


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
