"""Compile the kernels of the engine `native` into the shared libraries beside them, unless they have not changed.

``hatch_build.py`` calls this at every build of a wheel and at every editable install; as a program
(``python scripts/build_native.py``) it does the same to the tree that it lies in.  Only x86-64 Linux with glibc has
such kernels; elsewhere nothing is made, and nothing is missed.

The same sources are compiled for each of `LEVELS`, into a library each; the server loads the one that its processor
can run.  They are not one library that chooses inside: in one link, templates and inline functions of the C++ library
that were compiled for AVX-512 are merged with those of the other level, and may be called in their place.

The compiler is ``$CXX`` or else the first of c++, g++ and clang++ on the path.  Where there is none, it is the one in
the package ziglang, which an installer fetches for the time of the build (`requirements`).  ``LEEWAY_NATIVE=zig`` takes
that one in any case, ``LEEWAY_NATIVE=skip`` leaves the libraries out.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KERNELS = "server/engine/kernels"
OLD_LIBRARY = f"{KERNELS}/libleeway_native.so"  # what there was before there were levels
SOURCE = "native.cpp"  # includes the others
PARTS = ("*.cpp", "*.h")
ZIG = "ziglang==0.17.*"
ZIG_GLIBC = "2.28"  # as old as the one that OpenVINO's wheels ask for
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden", "-ffp-contract=off")
# The C++ library is linked to only if a symbol needs it, and the kernels use none; no symbol may be left over.
LINK = ("-shared", "-Wl,--as-needed", "-Wl,-z,defs")
LINKED = ("-pthread", "-lm")
WISHES = ("", "zig", "skip")


class NativeBuildError(Exception):
    """A library could not be built; the message ends with what the compiler said."""


@dataclass(frozen=True)
class Level:
    """What a library asks of the processor: the flags that say so to a compiler, and to ziglang's."""

    name: str
    cpu: tuple[str, ...]
    zig_cpu: tuple[str, ...]

    @property
    def library(self) -> str:
        """Its path in the tree."""
        return f"{KERNELS}/libleeway_native_{self.name}.so"


_AVX512 = ("-mavx512vnni", "-mavx512bf16")
# Without -g0 ziglang's always writes debugging information.
LEVELS = (
    Level("avx512", cpu=("-march=x86-64-v4", *_AVX512), zig_cpu=("-march=x86_64_v4", *_AVX512, "-g0")),
    Level("avx2", cpu=("-march=x86-64-v3",), zig_cpu=("-march=x86_64_v3", "-g0")),
)
LIBRARIES = tuple(level.library for level in LEVELS)


@dataclass(frozen=True)
class Compiler:
    """How to call one: the words before the flags, to compile and to link.

    `identity` stands for it in the digests; `platform_tag` is that of a wheel that holds what it makes; `packages` are
    those that it comes in; `is_zig` says whose flags for a level it takes.
    """

    compile: tuple[str, ...]
    link: tuple[str, ...]
    identity: str
    platform_tag: str
    packages: tuple[str, ...] = ()
    is_zig: bool = False

    def cpu(self, level: Level) -> tuple[str, ...]:
        """The flags of `level`, in its own words."""
        return level.zig_cpu if self.is_zig else level.cpu

    def commands(self, level: Level, source: Path, compiled: Path, library: Path) -> list[list[str]]:
        """The two calls that make `library` from `source`, for `level`."""
        return [
            [*self.compile, *self.cpu(level), *FLAGS, "-c", "-o", str(compiled), str(source)],
            [*self.link, *LINK, "-o", str(library), str(compiled), *LINKED],
        ]


@dataclass(frozen=True)
class Built:
    """Libraries that fit their sources, as `LEVELS` lists them; `fresh` if one was compiled just now."""

    libraries: tuple[Path, ...]
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
    """Whether libraries are to be built, for this machine and this environment."""
    return wish(environment) != "skip" and is_supported(sysconfig.get_platform(), platform.libc_ver()[0])


def zig_compiler() -> Compiler:
    """The compiler in the package ziglang: it brings its own headers and makes libraries for an old glibc."""
    zig = (sys.executable, "-m", "ziglang")
    target = ("-target", f"x86_64-linux-gnu.{ZIG_GLIBC}")
    # The C driver links: that of C++ compiles the whole C++ library first, a minute, for nothing.
    return Compiler(
        compile=(*zig, "c++", *target),
        link=(*zig, "cc", *target),
        identity=shlex.join((ZIG, *target)),  # not where Python lies: that is another place in each build
        platform_tag=f"manylinux_{ZIG_GLIBC.replace('.', '_')}_x86_64",
        packages=(ZIG,),
        is_zig=True,
    )


def system_compiler(words: Sequence[str]) -> Compiler:
    """That of this machine.  What it links to is this machine's, so the wheel promises no more than Linux."""
    return Compiler(
        compile=tuple(words),
        link=tuple(words),
        identity=f"{shlex.join(words)} {_version(words)}",
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


def digest(kernels: Path, compiler: Compiler, level: Level) -> str:
    """Of the sources, their names, the flags and the compiler."""
    words = (compiler.identity, *compiler.cpu(level), *FLAGS, *LINK, *LINKED)
    total = hashlib.sha256(shlex.join(words).encode())
    for path in sorted(path for part in PARTS for path in kernels.glob(part)):
        total.update(f"\n{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return total.hexdigest()


def _digest_file(library: Path) -> Path:
    return library.with_name(f"{library.name}.digest")


def is_fresh(library: Path, wanted: str) -> bool:
    """Whether `library` was made from what `wanted` is the digest of."""
    note = _digest_file(library)
    return library.is_file() and note.is_file() and note.read_text(encoding="utf-8").strip() == wanted


def _outdated(root: Path, compiler: Compiler) -> dict[Level, str]:
    """The levels whose libraries are to be compiled, and the digests of what they will be made from."""
    wanted = {level: digest(root / KERNELS, compiler, level) for level in LEVELS}
    return {level: made_from for level, made_from in wanted.items() if not is_fresh(root / level.library, made_from)}


def requirements(root: Path, environment: Mapping[str, str]) -> list[str]:
    """The packages that a build of the tree `root` needs: ziglang, if there is something to do and no compiler.

    Raises:
        NativeBuildError: For a ``LEEWAY_NATIVE`` or a ``CXX`` that is of no use.
    """
    if not is_wanted(environment):
        return []
    compiler = choose_compiler(environment)
    return list(compiler.packages) if _outdated(root, compiler) else []


def build(root: Path, environment: Mapping[str, str]) -> Built | None:
    """Make the libraries in the tree `root`, each if its sources, its flags or its compiler changed.

    Returns:
        None where there are to be none: on another platform, or as ``LEEWAY_NATIVE=skip`` asks.

    Raises:
        NativeBuildError: If one does not compile; those before it are made.
    """
    if not is_wanted(environment):
        return None
    compiler = choose_compiler(environment)
    outdated = _outdated(root, compiler)
    _remove(root, OLD_LIBRARY)
    with tempfile.TemporaryDirectory(prefix="leeway-native-") as folder:
        # zig keeps what it compiles: here, so that nothing stays behind.
        caches = {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}
        for level, made_from in outdated.items():
            library = root / level.library
            with _replaced(library, made_from) as new:
                for command in compiler.commands(level, root / KERNELS / SOURCE, Path(folder, "native.o"), new):
                    _run(command, {**environment, **caches})
    return Built(tuple(root / library for library in LIBRARIES), compiler.platform_tag, fresh=bool(outdated))


@contextlib.contextmanager
def _replaced(library: Path, made_from: str) -> Iterator[Path]:
    """Another name to make it under: a process that has it open keeps the old one, and none sees half of the new."""
    new = library.with_name(f"{library.name}.{os.getpid()}")
    note = _digest_file(library)
    try:
        yield new
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
    """Take the libraries and their digests out of the tree `root`, and the one library of an earlier install."""
    _remove(root, *LIBRARIES, OLD_LIBRARY)


def _remove(root: Path, *libraries: str) -> None:
    """With their digests."""
    for library in libraries:
        (root / library).unlink(missing_ok=True)
        _digest_file(root / library).unlink(missing_ok=True)


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
    sys.stdout.write(f"{', '.join(LIBRARIES)}: {said}\n")


if __name__ == "__main__":
    main()
