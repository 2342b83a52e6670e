"""The engine native computes what the reference computes, for any shape, number of threads and way of ranking, at every
level of instructions that this processor has."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_store import LengthConfiguration, ModelStore, full_configuration
from server.engine import NATIVE_LIBRARIES, create_engine, native, native_tensors, processor
from server.engine.interface import Engine, EngineUnavailableError
from server.engine.native import BFLOAT16, NEEDED, NativeEngine, obstacle
from server.engine.processor import lacking
from tests.trainer.helpers import quantized, random_batch, random_network
from tests.trainer.models import DROPPING, EDGES, EXEMPTING, FULL, SHAPE, answer, fresh, publish, window
from tests.trainer.test_parity import assert_alike
from trainer.quantize import observe

pytestmark = pytest.mark.usefixtures("one_torch_thread", "level")

PACKED = {"avx512": (64, 4), "avx2": (16, 2)}


Maker = Callable[[str], Engine]


@pytest.fixture
def mine(store: Path, level: str) -> Iterator[Maker]:
    """Makes the engine, of this level, for a model."""
    made: list[Engine] = []

    def make(model: str) -> Engine:
        made.append(fresh(store, "native", model))
        return made[-1]

    assert level in NEEDED
    yield make
    for engine in made:
        engine.close()


runs_here = pytest.mark.skipif(bool(obstacle()), reason=f"native: {obstacle()}")


@runs_here
@pytest.mark.parametrize("model", ["int8", "smooth", "question", "learned", "bilinear"])
@pytest.mark.parametrize("configuration", [FULL, DROPPING, EXEMPTING], ids=lambda one: str(one.id))
def test_native_computes_what_the_reference_computes(
    engines: Callable[[str, str], Engine], mine: Maker, model: str, configuration: LengthConfiguration
) -> None:
    engine = mine(model)
    for length in (1, 2, 5, 6, 7, *EDGES):
        tokens = window(length)
        expected = answer(engines("reference", model), tokens, configuration)
        assert_alike(answer(engine, tokens, configuration), expected, configuration)


no_bfloat16 = obstacle() or native._level() != "avx512" or lacking((BFLOAT16,))
with_bfloat16 = pytest.mark.skipif(bool(no_bfloat16), reason="no AVX512-BF16 here")


@with_bfloat16
@pytest.mark.parametrize("model", ["int8", "smooth", "question", "learned", "bilinear"])
def test_attention_in_bfloat16_is_near_the_reference(
    engines: Callable[[str, str], Engine], store: Path, level: str, model: str
) -> None:
    if level != "avx512":
        pytest.skip("this level has no bfloat16")
    engine = create_engine("native", ModelStore(store).load(model), threads=2, precision="bf16")
    assert engine.info.precision == "int8+bf16"
    for length in (1, 2, 5, 6, 7, *EDGES):
        expected = answer(engines("reference", model), window(length))
        found = answer(engine, window(length))
        assert np.abs(found - expected).max() < 0.15
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99
        dropped = answer(engine, window(length), DROPPING)
        assert np.isfinite(dropped).all()
        assert (answer(engine, window(length), DROPPING) == dropped).all()
    engine.close()


def test_bfloat16_is_refused_where_the_processor_has_none(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "NEEDED", NEEDED)
    monkeypatch.setattr(native, "obstacle", lambda: "")
    monkeypatch.setattr(native, "_level", lambda: "avx512")
    monkeypatch.setattr(native, "lacking", lambda flags: tuple(set(flags) & {BFLOAT16}))
    with pytest.raises(EngineUnavailableError, match=r"bf16 needs a processor with AVX512-BF16.*auto or f32"):
        create_engine("native", ModelStore(store).load("int8"), threads=1, precision="bf16")


WIDTHS = pytest.mark.parametrize(
    ("hidden", "heads", "intermediate"), [(32, 1, 64), (96, 2, 100), (72, 3, 130), (64, 1, 256), (128, 4, 64)]
)


@WIDTHS
@with_bfloat16
def test_bfloat16_of_any_width_is_near_float32(
    tmp_path: Path, level: str, hidden: int, heads: int, intermediate: int
) -> None:
    if level != "avx512":
        pytest.skip("this level has no bfloat16")
    shape = replace(SHAPE, hidden=hidden, heads=heads, intermediate=intermediate)
    network = random_network(shape, seed=3, scale=0.1)
    ranges = observe(network, [random_batch((12, 40, 80, 33), shape, seed) for seed in range(2)])
    publish(tmp_path, "int8", quantized(network, ranges), "int8", shape)
    artifact = ModelStore(tmp_path).load("int8")
    plain, rounded = (create_engine("native", artifact, threads=2, precision=each) for each in ("f32", "bf16"))
    for length in (1, 33, 80):
        found, expected = answer(rounded, window(length)), answer(plain, window(length))
        np.testing.assert_allclose(found, expected, atol=0.15)
    plain.close()
    rounded.close()


@runs_here
@WIDTHS
def test_widths_that_fill_no_vector_or_panel_are_padded_without_a_trace(
    tmp_path: Path, hidden: int, heads: int, intermediate: int
) -> None:
    shape = replace(SHAPE, hidden=hidden, heads=heads, intermediate=intermediate, positions=150)
    network = random_network(shape, seed=3, scale=0.1)
    ranges = observe(network, [random_batch((12, 40, 80, 33), shape, seed) for seed in range(2)])
    publish(tmp_path, "int8", quantized(network, ranges), "int8", shape)
    mine, reference = fresh(tmp_path, "native", "int8"), fresh(tmp_path, "reference", "int8")
    for length in (9, 70, 150):
        for configuration in (FULL, DROPPING):
            tokens = window(length)
            expected = answer(reference, tokens, configuration)
            assert_alike(answer(mine, tokens, configuration), expected, configuration)
    mine.close()


@runs_here
@pytest.mark.parametrize("model", ["int8", "learned", "bilinear"])
def test_any_number_of_threads_gives_the_same_logits(store: Path, model: str) -> None:
    artifact = ModelStore(store).load(model)
    one = NativeEngine(artifact, threads=1)
    for threads in (2, 3, 7):
        several = NativeEngine(artifact, threads=threads)
        for length in (3, 40, 80):
            np.testing.assert_allclose(
                answer(several, window(length), DROPPING), answer(one, window(length), DROPPING), atol=1e-5
            )
        several.close()
    one.close()


@runs_here
def test_members_of_a_team_lose_and_repeat_no_piece_over_many_calls(store: Path) -> None:
    engine = NativeEngine(ModelStore(store).load("learned"), threads=5)
    expected = {length: answer(engine, window(length), DROPPING) for length in (4, 50, 80)}
    for turn in range(300):
        length = (4, 50, 80)[turn % 3]
        assert (answer(engine, window(length), DROPPING) == expected[length]).all()
    engine.close()


@runs_here
def test_engines_may_be_called_from_any_thread_and_beside_each_other(store: Path) -> None:
    artifact = ModelStore(store).load("learned")
    made = [NativeEngine(artifact, threads=2) for _ in range(3)]
    expected = answer(made[0], window(60), DROPPING)
    wrong: list[int] = []

    def call(engine: Engine) -> None:
        wrong.extend(turn for turn in range(50) if (answer(engine, window(60), DROPPING) != expected).any())

    callers = [threading.Thread(target=call, args=(engine,)) for engine in made]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong
    for engine in made:
        engine.close()


@runs_here
def test_closing_ends_its_threads(store: Path) -> None:
    def running() -> set[str]:
        return {task.name for task in Path("/proc/self/task").iterdir()}

    before = running()
    engine = NativeEngine(ModelStore(store).load("int8"), threads=4)
    started = running() - before
    assert len(started) == 3
    engine.close()
    for _ in range(100_000):  # a thread that was joined may be listed a moment longer
        if not started & running():
            break
    assert not started & running()
    with pytest.raises(ValueError, match="closed"):
        engine.run([window(5)], FULL)


@runs_here
def test_calls_from_several_threads_wait_for_each_other(store: Path) -> None:
    engine = NativeEngine(ModelStore(store).load("learned"), threads=3)
    expected = {length: answer(engine, window(length), DROPPING) for length in (5, 80)}
    wrong: list[int] = []

    def call(length: int) -> None:
        wrong.extend(length for _ in range(60) if (answer(engine, window(length), DROPPING) != expected[length]).any())

    callers = [threading.Thread(target=call, args=(length,)) for length in (5, 80, 5, 80)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    engine.close()
    engine.close()
    assert not wrong


@runs_here
def test_a_model_that_the_kernels_cannot_do_is_refused(store: Path, tmp_path: Path) -> None:
    tensors = dict(ModelStore(store).load("int8").load_tensors())
    tensors["embeddings.segment"] = tensors["embeddings.segment"][:1]
    publish(tmp_path, "one", tensors, "int8", replace(SHAPE, segments=1))
    with pytest.raises(EngineUnavailableError, match="1 segment, at least 2; use openvino"):
        create_engine("native", ModelStore(tmp_path).load("one"), threads=1)
    assert "heads of 128" in native._unfit(replace(SHAPE, hidden=128, heads=1))
    assert "positions" in native._unfit(replace(SHAPE, positions=1 << 17))
    assert "inputs" in native._unfit(replace(SHAPE, intermediate=1 << 17))


@runs_here
def test_an_input_far_beyond_its_range_is_clamped_and_never_wraps(store: Path, tmp_path: Path) -> None:
    tensors = dict(ModelStore(store).load("int8").load_tensors())
    for name in ("layers.0.qkv", "layers.1.intermediate", "layers.2.output"):
        tensors[f"{name}.input_scale"] = np.full_like(tensors[f"{name}.input_scale"], 1e-12)
    tensors["layers.1.qkv.input_scale"] = np.full_like(tensors["layers.1.qkv.input_scale"], 1e-40)
    tiny = tensors["layers.1.qkv.input_scale"] > 0
    assert tiny.all()
    publish(tmp_path, "clamped", tensors, "int8")
    mine, reference = fresh(tmp_path, "native", "clamped"), fresh(tmp_path, "reference", "clamped")
    for length in (6, 40):
        np.testing.assert_allclose(answer(mine, window(length)), answer(reference, window(length)), atol=0.1)
    mine.close()


@runs_here
def test_a_float_artifact_is_refused(store: Path) -> None:
    with pytest.raises(EngineUnavailableError, match="int8 artifacts only"):
        create_engine("native", ModelStore(store).load("float"), threads=1)


def test_a_processor_without_the_instructions_is_named_as_the_reason(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "NEEDED", NEEDED)
    monkeypatch.setattr(native, "lacking", lambda flags: flags[:2])
    with pytest.raises(EngineUnavailableError, match="needs a processor with avx2, fma; use openvino"):
        create_engine("native", ModelStore(store).load("int8"), threads=1)


def test_the_best_level_that_the_processor_has_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "NEEDED", NEEDED)
    lacked: set[str] = set()
    monkeypatch.setattr(native, "NATIVE_LIBRARIES", dict.fromkeys(NATIVE_LIBRARIES, Path(__file__)))
    monkeypatch.setattr(native, "lacking", lambda flags: tuple(flag for flag in flags if flag in lacked))
    assert native._level() == "avx512"
    lacked.add("avx512_vnni")
    assert native._level() == "avx2"
    lacked.add("fma")
    assert native._level() == ""


def test_where_the_library_of_the_best_level_is_missing_the_next_one_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(native, "NEEDED", NEEDED)
    monkeypatch.setattr(native, "lacking", lambda _: ())
    monkeypatch.setattr(native, "NATIVE_LIBRARIES", {"avx512": tmp_path / "none.so", "avx2": Path(__file__)})
    assert native._level() == "avx2"
    assert not obstacle()
    monkeypatch.setattr(native, "NATIVE_LIBRARIES", dict.fromkeys(NEEDED, tmp_path / "none.so"))
    assert "there is no none.so" in obstacle()


@runs_here
def test_bfloat16_is_refused_by_a_level_that_has_none(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "NEEDED", {"avx2": NEEDED["avx2"]})
    monkeypatch.setattr(native, "lacking", lambda _: ())
    with pytest.raises(EngineUnavailableError, match="precision bf16 needs a processor with AVX512-BF16"):
        create_engine("native", ModelStore(store).load("int8"), threads=1, precision="bf16")


def test_flags_that_a_processor_lacks_are_read_from_cpuinfo(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    assert processor.lacking(("sse",), cpuinfo) == ("sse",)
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu sse avx512f\nflags : nothing\n")
    assert processor.lacking(("avx512f", "avx512_vnni"), cpuinfo) == ("avx512_vnni",)


def test_a_library_that_was_not_built_is_said_to_be_missing(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "libleeway_native.so"
    monkeypatch.setattr(native, "lacking", lambda _: ())
    monkeypatch.setattr(native, "NATIVE_LIBRARIES", dict.fromkeys(NATIVE_LIBRARIES, library))
    with pytest.raises(EngineUnavailableError, match="was not built"):
        create_engine("native", ModelStore(store).load("int8"), threads=1)
    library.write_bytes(b"no library")
    with pytest.raises(EngineUnavailableError, match="cannot be loaded"):
        create_engine("native", ModelStore(store).load("int8"), threads=1)


@runs_here
def test_a_library_of_another_version_is_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_VERSION", -1)
    with pytest.raises(EngineUnavailableError, match="another version"):
        create_engine("native", ModelStore(store).load("int8"), threads=1)


@runs_here
def test_structures_are_as_large_here_as_there(level: str) -> None:
    library = ctypes.CDLL(str(NATIVE_LIBRARIES[level]))
    assert (library.leeway_native_panel(), library.leeway_native_side_by_side()) == PACKED[level]
    assert library.leeway_native_model_bytes() == ctypes.sizeof(native_tensors.ModelStructure)
    assert library.leeway_native_layer_bytes() == ctypes.sizeof(native_tensors.LayerStructure)


@runs_here
def test_a_model_of_another_depth_has_its_own_configuration(mine: Maker) -> None:
    with pytest.raises(ValueError, match="layers"):
        mine("int8").run([window(5)], full_configuration(SHAPE.layers + 2))
