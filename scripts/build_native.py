"""Compile the kernels of the engine `native` into the shared library beside them, unless they have not changed.

``hatch_build.py`` calls this at every build of a wheel and at every editable install; as a program
(``python scripts/build_native.py``) it does the same to the tree that it lies in.  Only x86-64 Linux with glibc has
such kernels; elsewhere nothing is made, and nothing is missed.

The compiler is ``$CXX`` or else the first of c++, g++ and clang++ on the path.  Where there is none, it is the one in
the package ziglang, which an installer fetches for the time of the build (`requirements`).  ``LEEWAY_NATIVE=zig`` takes
that one in any case, ``LEEWAY_NATIVE=skip`` leaves the library out.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KERNELS = "server/engine/kernels"
LIBRARY = f"{KERNELS}/libleeway_native.so"
SOURCE = "native.cpp"  # includes the others
PARTS = ("*.cpp", "*.h")
ZIG = "ziglang==0.17.*"
ZIG_GLIBC = "2.28"  # as old as the one that OpenVINO's wheels ask for
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden", "-ffp-contract=off")
# The C++ library is linked to only if a symbol needs it, and the kernels use none; no symbol may be left over.
LINK = ("-shared", "-Wl,--as-needed", "-Wl,-z,defs")
LIBRARIES = ("-pthread", "-lm")
CPU = ("-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16")
ZIG_CPU = (
    "-march=x86_64_v4",
    "-mavx512vnni",
    "-mavx512bf16",
    "-g0",
)  # without -g0 it always writes debugging information
WISHES = ("", "zig", "skip")


class NativeBuildError(Exception):
    """The library could not be built; the message ends with what the compiler said."""


@dataclass(frozen=True)
class Compiler:
    """How to call one: the words before the flags, to compile and to link.

    `identity` stands for it in the digest; `platform_tag` is that of a wheel that holds what it makes; `packages` are
    those that it comes in.
    """

    compile: tuple[str, ...]
    link: tuple[str, ...]
    identity: str
    platform_tag: str
    packages: tuple[str, ...] = ()

    def commands(self, source: Path, compiled: Path, library: Path) -> list[list[str]]:
        """The two calls that make `library` from `source`."""
        return [
            [*self.compile, *FLAGS, "-c", "-o", str(compiled), str(source)],
            [*self.link, *LINK, "-o", str(library), str(compiled), *LIBRARIES],
        ]


@dataclass(frozen=True)
class Built:
    """A library that fits its sources; `fresh` if it was compiled just now."""

    library: Path
    platform_tag: str
    fresh: bool


def is_supported(system: str, libc: str) -> bool:
    """Whether there are kernels for `system` (as `sysconfig.get_platform` names it) with the C library `libc`."""
    return system == "linux-x86_64" and libc == "glibc"


def wish(environment: Mapping[str, str]) -> str:
    """``LEEWAY_NATIVE``: empty, ``zig`` or ``skip``.

    Raises:
        NativeBuildError: For any other value.
    """
    wished = environment.get("LEEWAY_NATIVE", "").strip().lower()
    if wished not in WISHES:
        raise NativeBuildError(f"LEEWAY_NATIVE={wished}: there are zig (compile with {ZIG}) and skip (leave it out)")
    return wished


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether a library is to be built, for this machine and this environment."""
    return wish(environment) != "skip" and is_supported(sysconfig.get_platform(), platform.libc_ver()[0])


def zig_compiler() -> Compiler:
    """The compiler in the package ziglang: it brings its own headers and makes libraries for an old glibc."""
    zig = (sys.executable, "-m", "ziglang")
    target = ("-target", f"x86_64-linux-gnu.{ZIG_GLIBC}")
    # The C driver links: that of C++ compiles the whole C++ library first, a minute, for nothing.
    return Compiler(
        compile=(*zig, "c++", *target, *ZIG_CPU),
        link=(*zig, "cc", *target),
        identity=shlex.join((ZIG, *target, *ZIG_CPU)),  # not where Python lies: that is another place in each build
        platform_tag=f"manylinux_{ZIG_GLIBC.replace('.', '_')}_x86_64",
        packages=(ZIG,),
    )


def system_compiler(words: Sequence[str]) -> Compiler:
    """That of this machine.  What it links to is this machine's, so the wheel promises no more than Linux."""
    return Compiler(
        compile=(*words, *CPU),
        link=tuple(words),
        identity=f"{shlex.join((*words, *CPU))} {_version(words)}",
        platform_tag="linux_x86_64",
    )


def _version(words: Sequence[str]) -> str:
    """What the compiler says of itself, so that an update of it compiles again."""
    try:
        done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - the user's compiler
    except OSError as error:
        raise NativeBuildError(f"the compiler {shlex.join(words)} cannot be run: {error}") from error
    return done.stdout.partition("\n")[0]


def choose_compiler(environment: Mapping[str, str]) -> Compiler:
    """``$CXX``, or what is on the path, or ziglang's."""
    if wish(environment) == "zig":
        return zig_compiler()
    named = shlex.split(environment.get("CXX", ""))
    if named:
        return system_compiler(named)
    found = (shutil.which(name, path=environment.get("PATH", "")) for name in ("c++", "g++", "clang++"))
    compiler = next((path for path in found if path), None)
    return system_compiler([compiler]) if compiler else zig_compiler()


def digest(kernels: Path, compiler: Compiler) -> str:
    """Of the sources, their names, the flags and the compiler."""
    total = hashlib.sha256(shlex.join((compiler.identity, *FLAGS, *LINK, *LIBRARIES)).encode())
    for path in sorted(path for part in PARTS for path in kernels.glob(part)):
        total.update(f"\n{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return total.hexdigest()


def _digest_file(library: Path) -> Path:
    return library.with_name(f"{library.name}.digest")


def is_fresh(library: Path, wanted: str) -> bool:
    """Whether `library` was made from what `wanted` is the digest of."""
    note = _digest_file(library)
    return library.is_file() and note.is_file() and note.read_text(encoding="utf-8").strip() == wanted


def requirements(root: Path, environment: Mapping[str, str]) -> list[str]:
    """The packages that a build of the tree `root` needs: ziglang, if there is something to do and no compiler."""
    if not is_wanted(environment):
        return []
    compiler = choose_compiler(environment)
    nothing_to_do = is_fresh(root / LIBRARY, digest(root / KERNELS, compiler))
    return [] if nothing_to_do else list(compiler.packages)


def build(root: Path, environment: Mapping[str, str]) -> Built | None:
    """Make the library in the tree `root`, if its sources, its flags or its compiler changed.

    Returns:
        None where there is to be none: on another platform, or as ``LEEWAY_NATIVE=skip`` asks.

    Raises:
        NativeBuildError: If it does not compile.
    """
    if not is_wanted(environment):
        return None
    compiler, library = choose_compiler(environment), root / LIBRARY
    wanted = digest(root / KERNELS, compiler)
    fresh = not is_fresh(library, wanted)
    if fresh:
        _compile(compiler, library, environment, wanted)
    return Built(library, compiler.platform_tag, fresh)


def _compile(compiler: Compiler, library: Path, environment: Mapping[str, str], made_from: str) -> None:
    """Under another name first: a process that has the library open keeps the old one, and none sees half of it."""
    new = library.with_name(f"{library.name}.{os.getpid()}")
    note = _digest_file(library)
    try:
        with tempfile.TemporaryDirectory(prefix="leeway-native-") as folder:
            # zig keeps what it compiles: here, so that nothing stays behind.
            caches = {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}
            for command in compiler.commands(library.parent / SOURCE, Path(folder, "native.o"), new):
                _run(command, {**environment, **caches})
        note.unlink(missing_ok=True)
        new.replace(library)
        note.write_text(f"{made_from}\n", encoding="utf-8")
    finally:
        new.unlink(missing_ok=True)


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run to its end.

    Raises:
        NativeBuildError: With the command and its output, if it fails.
    """
    try:
        done = subprocess.run(  # noqa: S603 - the compiler that was chosen
            command,
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise NativeBuildError(f"the compiler cannot be run: {error}") from error
    if done.returncode:
        raise NativeBuildError(
            f"the kernels of the engine native do not compile (LEEWAY_NATIVE=zig takes another compiler, "
            f"LEEWAY_NATIVE=skip leaves them out):\n{shlex.join(command)}\n{done.stdout}"
        )


def remove(root: Path) -> None:
    """Take the library and its digest out of the tree `root`."""
    for path in (root / LIBRARY, _digest_file(root / LIBRARY)):
        path.unlink(missing_ok=True)


def main() -> None:
    """Build in this tree, or, with ``--requirements``, print what that needs."""
    root = Path(__file__).resolve().parents[1]
    try:
        if sys.argv[1:] == ["--requirements"]:
            sys.stdout.write("".join(f"{each}\n" for each in requirements(root, os.environ)))
            return
        built = build(root, os.environ)
    except NativeBuildError as error:
        sys.exit(str(error))
    said = "not built here" if built is None else "compiled" if built.fresh else "up to date"
    sys.stdout.write(f"{LIBRARY}: {said}\n")


if __name__ == "__main__":
    main()
