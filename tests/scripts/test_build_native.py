"""How the libraries of the engine `native` are built: by whom, with which words, and when not."""

from __future__ import annotations

import importlib.util
import platform
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType

import pytest

from server.engine import NATIVE_LIBRARIES
from server.engine.native import NEEDED

ROOT = Path(__file__).parents[2]
CALLS = "calls.txt"
# What stands in for a compiler: it notes how it was called, and makes the file that -o names.
STAND_IN = """#!{python}
import sys
from pathlib import Path
words = sys.argv[1:]
if words == ["--version"]:
    print("{version}")
elif {fails}:
    sys.exit("native.cpp:1: error: this will not do")
else:
    with Path(__file__).with_name("{calls}").open("a") as file:
        file.write(" ".join(words) + "\\n")
    Path(words[words.index("-o") + 1]).write_text("compiled")
"""


@pytest.fixture(scope="module")
def native() -> ModuleType:
    specification = importlib.util.spec_from_file_location("build_native", ROOT / "scripts" / "build_native.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["build_native"] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def tree(native: ModuleType, tmp_path: Path) -> Path:
    """A tree with kernels."""
    kernels = tmp_path / "tree" / native.KERNELS
    kernels.mkdir(parents=True)
    (kernels / "native.cpp").write_text('#include "products.h"\n', encoding="utf-8")
    (kernels / "products.h").write_text("// products\n", encoding="utf-8")
    return tmp_path / "tree"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that there are kernels for."""
    monkeypatch.setattr(sysconfig, "get_platform", lambda: "linux-x86_64")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))


Maker = Callable[..., dict[str, str]]


@pytest.fixture
def with_compiler(tmp_path: Path) -> Maker:
    """Makes an environment with nothing on the path but a stand-in for a compiler."""

    def make(name: str = "g++", *, version: str = "1.0", fails: bool = False) -> dict[str, str]:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = STAND_IN.format(python=sys.executable, version=version, fails=fails, calls=CALLS)
        (folder / name).write_text(program, encoding="utf-8")
        (folder / name).chmod(0o755)
        return {"PATH": str(folder)}

    return make


def calls(environment: dict[str, str]) -> list[str]:
    """How the stand-in was called, but for its version."""
    noted = Path(environment["PATH"], CALLS)
    return noted.read_text(encoding="utf-8").splitlines() if noted.exists() else []


@pytest.mark.parametrize(
    ("system", "libc", "supported"),
    [
        ("linux-x86_64", "glibc", True),
        ("linux-x86_64", "", False),  # musl
        ("linux-i686", "glibc", False),
        ("linux-aarch64", "glibc", False),
        ("macosx-14.0-x86_64", "", False),
        ("win-amd64", "", False),
    ],
)
def test_only_x86_64_linux_with_glibc_has_kernels(
    native: ModuleType, system: str, libc: str, *, supported: bool
) -> None:
    assert native.is_supported(system, libc) is supported


def test_elsewhere_nothing_is_built_and_nothing_needed(
    native: ModuleType, tree: Path, with_compiler: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_platform", lambda: "linux-aarch64")
    assert native.build(tree, with_compiler()) is None
    assert native.requirements(tree, {"PATH": ""}) == []


def test_cxx_goes_before_the_path_and_may_have_words_of_its_own(native: ModuleType, with_compiler: Maker) -> None:
    environment = with_compiler("g++")
    wrapped = f"{environment['PATH']}/g++ -m64"
    assert native.choose_compiler({**environment, "CXX": wrapped}).link == tuple(wrapped.split())


@pytest.mark.parametrize("name", ["c++", "g++", "clang++"])
def test_a_compiler_on_the_path_is_taken(native: ModuleType, with_compiler: Maker, name: str) -> None:
    environment = with_compiler(name)
    compiler = native.choose_compiler(environment)
    assert compiler.link == (f"{environment['PATH']}/{name}",)
    assert (compiler.platform_tag, compiler.packages) == ("linux_x86_64", ())


def test_cxx_that_there_is_not_is_an_error(native: ModuleType) -> None:
    with pytest.raises(native.NativeBuildError, match="no-such-compiler"):
        native.choose_compiler({"PATH": "", "CXX": "/no-such-compiler"})


@pytest.mark.usefixtures("here")
def test_without_a_compiler_ziglang_is_asked_for(native: ModuleType, tree: Path) -> None:
    compiler = native.choose_compiler({"PATH": ""})
    assert compiler.compile[:4] == (sys.executable, "-m", "ziglang", "c++")
    assert compiler.platform_tag == "manylinux_2_28_x86_64"
    assert native.requirements(tree, {"PATH": ""}) == [native.ZIG]


@pytest.mark.usefixtures("here")
def test_with_a_compiler_nothing_is_asked_for_unless_one_wishes(
    native: ModuleType, tree: Path, with_compiler: Maker
) -> None:
    environment = with_compiler()
    assert native.requirements(tree, environment) == []
    assert native.requirements(tree, {**environment, "LEEWAY_NATIVE": "zig"}) == [native.ZIG]


@pytest.mark.usefixtures("here")
def test_skip_builds_and_needs_nothing(native: ModuleType, tree: Path) -> None:
    environment = {"PATH": "", "LEEWAY_NATIVE": "skip"}
    assert native.build(tree, environment) is None
    assert native.requirements(tree, environment) == []


def test_another_wish_is_refused(native: ModuleType, tree: Path) -> None:
    with pytest.raises(native.NativeBuildError, match="LEEWAY_NATIVE=yes"):
        native.build(tree, {"PATH": "", "LEEWAY_NATIVE": "yes"})


def test_zig_is_told_the_c_library_that_the_wheel_promises(native: ModuleType) -> None:
    files = (Path("native.cpp"), Path("native.o"), Path("native.so"))
    for level in native.LEVELS:
        compiled, linked = native.zig_compiler().commands(level, *files)
        for command in (compiled, linked):
            assert command[command.index("-target") + 1] == "x86_64-linux-gnu.2.28"
        assert "cc" in linked  # the driver for C++ would compile its library


@pytest.mark.parametrize(
    ("zig", "name", "flags"),
    [
        (False, "avx512", {"-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16"}),
        (False, "avx2", {"-march=x86-64-v3"}),
        (True, "avx512", {"-march=x86_64_v4", "-mavx512vnni", "-mavx512bf16"}),
        (True, "avx2", {"-march=x86_64_v3"}),
    ],
)
def test_each_level_is_compiled_for_its_processors(
    native: ModuleType, with_compiler: Maker, name: str, flags: set[str], *, zig: bool
) -> None:
    compiler = native.zig_compiler() if zig else native.choose_compiler(with_compiler())
    (level,) = (level for level in native.LEVELS if level.name == name)
    compiled, _ = compiler.commands(level, Path("native.cpp"), Path("native.o"), Path(level.library))
    assert {word for word in compiled if word.startswith("-m")} - {"-m"} == flags  # python -m ziglang
    assert ("-g0" in compiled) is zig


@pytest.mark.usefixtures("here")
def test_it_is_compiled_and_linked_with_the_flags(native: ModuleType, tree: Path, with_compiler: Maker) -> None:
    environment = with_compiler()
    built = native.build(tree, environment)
    libraries = ("libleeway_native_avx512.so", "libleeway_native_avx2.so")
    kernels = tree / native.KERNELS
    assert built == native.Built(tuple(kernels / name for name in libraries), "linux_x86_64", fresh=True)
    assert {library.read_text(encoding="utf-8") for library in built.libraries} == {"compiled"}
    called = [set(call.split()) for call in calls(environment)]
    assert len(called) == 2 * len(libraries)
    for march, compiled, linked in zip(("x86-64-v4", "x86-64-v3"), called[::2], called[1::2], strict=True):
        assert {"-O3", f"-march={march}", "-ffp-contract=off", "-fvisibility=hidden", "-c"} <= compiled
        assert {"-shared", "-Wl,-z,defs", "-Wl,--as-needed", "-lm"} <= linked
    left = {path.name for path in kernels.iterdir()}
    assert left == {"native.cpp", "products.h", *libraries, *(f"{name}.digest" for name in libraries)}


@pytest.mark.usefixtures("here")
def test_what_has_not_changed_is_not_compiled_again(native: ModuleType, tree: Path, with_compiler: Maker) -> None:
    environment = with_compiler()
    native.build(tree, environment)
    (tree / native.KERNELS / "native.cpp").touch()
    assert not native.build(tree, environment).fresh
    assert len(calls(environment)) == 4


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("change", ["source", "header", "new file", "flags", "version"])
def test_what_has_changed_is_compiled_again(
    native: ModuleType, tree: Path, with_compiler: Maker, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    environment = with_compiler()
    native.build(tree, environment)
    kernels = tree / native.KERNELS
    if change in {"source", "header", "new file"}:
        name = {"source": "native.cpp", "header": "products.h", "new file": "norms.h"}[change]
        (kernels / name).write_text("// changed\n", encoding="utf-8")
    elif change == "flags":
        monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-g"))
    else:
        with_compiler(version="2.0")
    assert native.build(tree, environment).fresh
    assert not native.build(tree, environment).fresh
    assert len(calls(environment)) == 8


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["avx512", "avx2"])
@pytest.mark.parametrize("change", ["flags", "library", "digest"])
def test_what_has_changed_for_one_level_is_compiled_again_for_that_alone(
    native: ModuleType, tree: Path, with_compiler: Maker, monkeypatch: pytest.MonkeyPatch, name: str, change: str
) -> None:
    environment = with_compiler()
    native.build(tree, environment)
    (level,) = (level for level in native.LEVELS if level.name == name)
    if change == "flags":
        tuned = replace(level, cpu=(*level.cpu, "-mtune=native"))
        monkeypatch.setattr(native, "LEVELS", tuple(tuned if each is level else each for each in native.LEVELS))
    else:
        (tree / (level.library if change == "library" else f"{level.library}.digest")).unlink()
    assert native.build(tree, environment).fresh
    again = calls(environment)[4:]
    assert len(again) == 2
    assert f"libleeway_native_{name}.so" in again[1]
    assert not native.build(tree, environment).fresh


@pytest.mark.usefixtures("here")
def test_ziglang_is_not_asked_for_where_its_libraries_are_up_to_date(native: ModuleType, tree: Path) -> None:
    for level in native.LEVELS:
        assert native.requirements(tree, {"PATH": ""}) == [native.ZIG]
        library = tree / level.library
        library.write_text("compiled", encoding="utf-8")
        made_from = native.digest(library.parent, native.zig_compiler(), level)
        library.with_name(f"{library.name}.digest").write_text(made_from, encoding="utf-8")
    assert native.requirements(tree, {"PATH": ""}) == []


@pytest.mark.usefixtures("here")
def test_a_failure_says_what_the_compiler_said_and_keeps_the_old_libraries(
    native: ModuleType, tree: Path, with_compiler: Maker
) -> None:
    libraries = native.build(tree, with_compiler()).libraries
    with pytest.raises(native.NativeBuildError, match="LEEWAY_NATIVE=skip") as caught:
        native.build(tree, with_compiler(version="2.0", fails=True))
    assert "error: this will not do" in str(caught.value)
    assert {library.read_text(encoding="utf-8") for library in libraries} == {"compiled"}


@pytest.mark.usefixtures("here")
def test_remove_takes_away_all_that_was_built(native: ModuleType, tree: Path, with_compiler: Maker) -> None:
    native.build(tree, with_compiler())
    for name in ("libleeway_native.so", "libleeway_native.so.digest"):  # when there was only one
        (tree / native.KERNELS / name).write_text("by an earlier install", encoding="utf-8")
    native.remove(tree)
    native.remove(tree)
    assert {path.name for path in (tree / native.KERNELS).iterdir()} == {"native.cpp", "products.h"}


def test_git_ignores_what_is_built(native: ModuleType) -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    for library in (*native.LIBRARIES, native.OLD_LIBRARY):
        for name in (library, f"{library}.digest"):
            assert any(fnmatchcase(f"/{name}", pattern) for pattern in ignored), name


def test_the_server_looks_for_what_is_built(native: ModuleType) -> None:
    assert [path.relative_to(ROOT).as_posix() for path in NATIVE_LIBRARIES.values()] == list(native.LIBRARIES)
    assert list(NEEDED) == list(NATIVE_LIBRARIES)
