"""The libraries of the engine `native` in wheels and editable installs: by the compilers there are, and by none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARIES = {  # and how each packs weights, which tells the levels apart
    "server/engine/kernels/libleeway_native_avx512.so": [64, 4],
    "server/engine/kernels/libleeway_native_avx2.so": [16, 2],
}
NOT_PASSED_ON = {"PYTHONPATH", "PYTHONHOME", "CXX", "LEEWAY_NATIVE"}
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
# What every process on Linux has: no C++ library among it.
MAY_BE_LINKED = {"linux-vdso.so.1", "libc.so.6", "libm.so.6", "libpthread.so.0", "/lib64/ld-linux-x86-64.so.2"}
NOT_TO_BE_HAD = ("No matching distribution", "Could not find a version", "Failed to establish a new connection")
# Functions that return a constant run on any processor.
LOAD = """import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
print(library.leeway_native_version(), library.leeway_native_panel(), library.leeway_native_side_by_side())"""

pytestmark = pytest.mark.skipif(sysconfig.get_platform() != "linux-x86_64", reason="no kernels for this platform")
needs_a_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("c++", "g++", "clang++")), reason="no C++ compiler on the path"
)


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the source distribution unpacks to."""
    folder = tmp_path_factory.mktemp("sdist")
    done = run(sys.executable, "-m", "build", "--sdist", "--outdir", folder, ROOT, cwd=folder)
    assert done.returncode == 0, done.stdout
    (packed,) = folder.glob("*.tar.gz")
    assert run("tar", "--extract", "--file", packed, cwd=folder).returncode == 0  # tarfile's filters need Python 3.11.4
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
    return unpacked


def make_wheel(tree: Path, folder: Path, **environment: str) -> Path:
    done = run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, tree, cwd=folder, **environment)
    if done.returncode and any(sign in done.stdout for sign in NOT_TO_BE_HAD):
        pytest.skip(f"a package that the build needs cannot be had here:\n{done.stdout[-500:]}")
    assert done.returncode == 0, done.stdout
    (wheel,) = folder.glob("*.whl")
    return wheel


def take_libraries(wheel: Path, folder: Path) -> Path:
    """Out of the wheel, which holds no more of what a build leaves, into `folder`."""
    with zipfile.ZipFile(wheel) as archive:
        built = [name for name in archive.namelist() if "libleeway_native" in name]
        assert sorted(built) == sorted(LIBRARIES)
        archive.extractall(folder, built)
    return folder


def assert_they_load(folder: Path) -> None:
    """Wherever there is Python: no library of C++ is asked for."""
    for library, packed in LIBRARIES.items():
        loaded = run(sys.executable, "-c", LOAD, folder / library, cwd=folder)
        assert loaded.returncode == 0, loaded.stdout
        version, *found = map(int, loaded.stdout.split())
        assert version >= 1
        assert found == packed, f"{library} is of another level"
        listed = run("ldd", folder / library, cwd=folder)
        assert listed.returncode == 0, listed.stdout
        linked = {line.split()[0] for line in listed.stdout.splitlines()}
        assert linked - {"statically"} <= MAY_BE_LINKED, library  # "statically linked": to nothing at all


def test_the_source_distribution_holds_sources_and_hook_and_no_library(tree: Path) -> None:
    for name in ("hatch_build.py", "scripts/build_native.py", "server/engine/kernels/native.cpp"):
        assert (tree / name).is_file(), name
    assert list(tree.rglob("*.so*")) == []


@needs_a_compiler
def test_a_wheel_holds_libraries_that_load(tree: Path, tmp_path: Path) -> None:
    wheel = make_wheel(tree, tmp_path)
    assert wheel.name.endswith("-py3-none-linux_x86_64.whl")
    assert_they_load(take_libraries(wheel, tmp_path))


def test_without_a_compiler_ziglang_makes_the_libraries(tree: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "empty"
    nowhere.mkdir()
    wheel = make_wheel(tree, tmp_path, PATH=str(nowhere))
    assert wheel.name.endswith("-py3-none-manylinux_2_28_x86_64.whl")
    assert_they_load(take_libraries(wheel, tmp_path))


def test_a_wheel_without_the_libraries_is_one_for_every_platform(tree: Path, tmp_path: Path) -> None:
    for library in LIBRARIES:
        (tree / library).write_bytes(b"left by another build")
    wheel = make_wheel(tree, tmp_path, LEEWAY_NATIVE="skip")
    for library in LIBRARIES:
        (tree / library).unlink()
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert [name for name in archive.namelist() if "libleeway_native" in name] == []


def test_a_compiler_that_fails_fails_the_build(tree: Path, tmp_path: Path) -> None:
    done = run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, tree, cwd=tmp_path, CXX="false")
    assert done.returncode != 0
    assert "LEEWAY_NATIVE=skip" in done.stdout
    assert list(tmp_path.glob("*.whl")) == []


@needs_a_compiler
def test_an_editable_install_compiles_in_the_tree(tree: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    assert run(sys.executable, "-m", "venv", venv, cwd=tmp_path).returncode == 0
    install = (venv / "bin" / "python", "-m", "pip", "install", "--no-deps", "--editable", tree)
    done = run(*install, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert_they_load(tree)
    made = [(tree / library).stat().st_mtime_ns for library in LIBRARIES]
    assert run(*install, cwd=tmp_path).returncode == 0
    assert [(tree / library).stat().st_mtime_ns for library in LIBRARIES] == made, "compiled again without need"
    assert run(*install, cwd=tmp_path, LEEWAY_NATIVE="skip").returncode == 0
    assert not any((tree / library).exists() for library in LIBRARIES)
