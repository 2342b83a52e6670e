"""One test per defect of an artifact, named after the attack."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from model_store import ModelStore, find_defects, load_artifact, validate_tensors
from model_store import errors as e
from model_store.skimmer import SKIMMER_FILE
from tests.model_store.tiny_artifact import TINY, WORDS, publish_skimming, publish_tiny, tiny_skimmer, tiny_tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return publish_tiny(tmp_path / "store").path


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    value = json.loads(path.read_bytes())
    edit(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def replace(folder: Path, name: str, data: bytes) -> None:
    """Replace a file and make the manifest agree, as an attacker who can write would."""
    (folder / name).write_bytes(data)
    entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(folder, lambda manifest: manifest["files"].update({name: entry}))


def assert_refused(folder: Path, error: type[Exception], match: str | None = None) -> None:
    with pytest.raises(error, match=match):
        load_artifact(folder).load_tensors()
    assert error in {type(defect) for defect in find_defects(folder)}


def test_sound_artifact_has_no_defects(folder: Path) -> None:
    artifact = load_artifact(folder)
    assert find_defects(folder) == []
    assert artifact.digest == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert artifact.manifest.architecture == TINY
    assert artifact.tokenizer_path.is_file()
    for name, tensor in tiny_tensors().items():
        np.testing.assert_array_equal(artifact.load_tensors()[name], tensor)


def test_float_twin_has_the_same_names_without_scales(tmp_path: Path) -> None:
    tensors = load_artifact(publish_tiny(tmp_path, scheme="none").path).load_tensors()
    assert {tensor.dtype.name for tensor in tensors.values()} == {"float32"}
    assert set(tensors) < set(tiny_tensors())


@pytest.mark.parametrize("name", ["manifest.json", "MODEL_CARD.md", "model.safetensors", "pareto_table.json"])
def test_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert_refused(folder, e.MissingFileError, name)


def test_required_file_not_listed(folder: Path) -> None:
    (folder / "MODEL_CARD.md").unlink()
    edit_manifest(folder, lambda manifest: manifest["files"].pop("MODEL_CARD.md"))
    assert_refused(folder, e.MissingFileError, "does not list")


def test_extra_file_smuggled_in(folder: Path) -> None:
    (folder / "weights.pkl").write_bytes(b"cos\nsystem\n.")
    assert_refused(folder, e.UnexpectedFileError, "weights.pkl")


def test_pipe_in_place_of_a_file_does_not_hang(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    os.mkfifo(folder / "tokenizer.json")
    assert_refused(folder, e.UnexpectedFileError)


def test_one_flipped_bit(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    assert_refused(folder, e.DigestMismatchError)
    assert load_artifact(folder, verify_digests=False).manifest.name == "tiny"


def test_appended_bytes(folder: Path) -> None:
    with (folder / "MODEL_CARD.md").open("ab") as file:
        file.write(b"!")
    assert_refused(folder, e.DigestMismatchError)


def test_file_cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert_refused(folder, e.TruncatedFileError)


@pytest.mark.parametrize("keep", [0, 7, 8, 100, -1])
def test_tensor_file_cut_short_with_a_matching_manifest(folder: Path, keep: int) -> None:
    replace(folder, "model.safetensors", (folder / "model.safetensors").read_bytes()[:keep])
    assert_refused(folder, e.TruncatedFileError)


@pytest.mark.parametrize("length", [(1 << 20) + 1, (1 << 64) - 1])
def test_tensor_header_that_claims_to_be_huge(folder: Path, length: int) -> None:
    data = (folder / "model.safetensors").read_bytes()
    replace(folder, "model.safetensors", struct.pack("<Q", length) + data[8:])
    assert_refused(folder, e.OversizedHeaderError)


@pytest.mark.parametrize("name", ["manifest.json", "pareto_table.json"])
def test_huge_json(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes() + b" " * (1 << 20)
    if name == "manifest.json":
        (folder / name).write_bytes(data)
    else:
        replace(folder, name, data)
    assert_refused(folder, e.OversizedHeaderError)


@pytest.mark.parametrize("version", [0, 2, True, "1", None])
def test_unknown_format_version_says_what_is_supported(folder: Path, version: object) -> None:
    edit_manifest(folder, lambda manifest: manifest.update(format_version=version))
    assert_refused(folder, e.UnknownFormatVersionError, "supported: 1")


@pytest.mark.parametrize("name", ["../tokenizer.json", "/etc/passwd", "a\\b", "a\0b", ".."])
def test_listed_path_leads_out(folder: Path, name: str) -> None:
    edit_manifest(folder, lambda manifest: manifest["files"].update({name: {"size": 0, "sha256": "0" * 64}}))
    assert_refused(folder, e.PathOutsideStoreError)


@pytest.mark.parametrize("name", ["tokenizer.json", "manifest.json"])
def test_symbolic_link_in_place_of_a_file(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    assert_refused(folder, e.PathOutsideStoreError)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b"\xff", b'{"a": 1, "a": 2}', b'{"a": NaN}', b'{"a": 1e999}', b'{"a": "\\ud800"}',
     b'{"a":' * 20_000, b'{"a": ' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_manifest_that_is_no_strict_json(folder: Path, data: bytes) -> None:
    (folder / "manifest.json").write_bytes(data)
    assert_refused(folder, e.InvalidManifestError)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("architecture", "layers", 10**9), ("architecture", "layers", True), ("architecture", "heads", 3),
        ("architecture", "activation", "relu"), ("architecture", "family", "gpt"), ("architecture", "hidden", 0),
        ("architecture", "layer_norm_epsilon", -1), ("architecture", "rotary", True),
        ("tokenizer", "cls_id", 30), ("tokenizer", "cls_id", 0), ("tokenizer", "lowercase", "yes"),
        ("reading", "max_length", 65), ("reading", "overlap", 40), ("reading", "stride", 1),
        ("quantization", "scheme", "int4"), ("files", "sub/file", {"size": 0, "sha256": "0" * 64}),
        ("files", "x", {"size": -1, "sha256": "0" * 64}), ("files", "x", {"size": 0, "sha256": "zz"}),
    ],
)  # fmt: skip
def test_manifest_with_a_wrong_field(folder: Path, part: str, key: str, value: object) -> None:
    edit_manifest(folder, lambda manifest: manifest[part].update({key: value}))
    assert_refused(folder, e.InvalidManifestError)


@pytest.mark.parametrize(("key", "value"), [("licences", []), ("created", "yesterday"), ("metrics", 3)])
def test_manifest_with_a_wrong_top_level_field(folder: Path, key: str, value: object) -> None:
    edit_manifest(folder, lambda manifest: manifest.update({key: value}))
    assert_refused(folder, e.InvalidManifestError)


def test_unknown_top_level_keys_are_ignored(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest.update(signature="later"))
    assert find_defects(folder) == []


def test_manifest_moved_to_another_place(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest.update(name="other"))
    store = ModelStore(folder.parent.parent)
    with pytest.raises(e.InvalidManifestError, match="other@1"):
        store.load("tiny")
    assert [type(defect) for defect in store.verify("tiny")] == [e.InvalidManifestError]


def test_table_of_another_depth(folder: Path) -> None:
    table = json.loads((folder / "pareto_table.json").read_bytes())
    for point in table["points"]:
        point["ratios"].append(point["ratios"][-1])
    replace(folder, "pareto_table.json", json.dumps(table).encode())
    assert_refused(folder, e.InvalidTableError, "3 layers")


@pytest.mark.parametrize("header", [b"[]", b"{", b'{"x": 3}', b'{"x": {"dtype": "F32"}}', b"[" * 50_000])
def test_tensor_header_of_another_form(folder: Path, header: bytes) -> None:
    replace(folder, "model.safetensors", struct.pack("<Q", len(header)) + header)
    assert_refused(folder, e.InvalidTensorError)


def test_tensor_data_that_overlaps(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["head.bias"]["data_offsets"] = header["embeddings.norm.bias"]["data_offsets"]
    text = json.dumps(header).encode()
    replace(folder, "model.safetensors", struct.pack("<Q", len(text)) + text + data[8 + length :])
    assert_refused(folder, e.InvalidTensorError)


def test_tensor_missing() -> None:
    tensors = tiny_tensors()
    del tensors["layers.1.output.weight_scale"]
    with pytest.raises(e.InvalidTensorError, match=r"missing.*layers\.1\.output\.weight_scale"):
        validate_tensors(tensors, TINY, "int8")


def test_tensor_that_is_not_in_the_format() -> None:
    with pytest.raises(e.InvalidTensorError, match="pooler"):
        validate_tensors(tiny_tensors() | {"pooler": np.zeros(1, np.float32)}, TINY, "int8")


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("head.bias", np.zeros(2, np.float64)),
        ("head.bias", np.zeros(3, np.float32)),
        ("head.bias", np.array([0, np.nan], np.float32)),
        ("head.bias", np.array([0, np.inf], np.float32)),
        ("layers.0.qkv.input_scale", np.zeros(1, np.float32)),
        ("layers.0.qkv.input_scale", np.ones(2, np.float32)),
        ("embeddings.word.scale", np.full(30, -1, np.float32)),
        ("layers.0.attention_output.weight", np.full((8, 8), -128, np.int8)),
        ("layers.0.qkv.input_zero_point", np.zeros(1, np.int8)),
    ],
)
def test_tensor_of_wrong_type_shape_or_value(name: str, tensor: Any) -> None:
    with pytest.raises(e.InvalidTensorError, match=name):
        validate_tensors(tiny_tensors() | {name: tensor}, TINY, "int8")


def test_input_scale_may_be_per_channel() -> None:
    validate_tensors(tiny_tensors() | {"layers.0.output.input_scale": np.ones(16, np.float32)}, TINY, "int8")


def test_not_finite_weights_in_a_file_with_matching_digests(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    length = int.from_bytes(data[:8], "little")
    start = 8 + length + json.loads(data[8 : 8 + length])["head.bias"]["data_offsets"][0]
    data[start : start + 4] = struct.pack("<f", float("nan"))
    replace(folder, "model.safetensors", bytes(data))
    assert_refused(folder, e.InvalidTensorError, "finite")


def test_a_skimmer_of_another_shape_or_with_a_wrong_value(tmp_path: Path) -> None:
    folder = publish_skimming(tmp_path).path
    assert find_defects(folder) == []
    np.testing.assert_array_equal(load_artifact(folder).load_skimmer()["rarity"], tiny_skimmer()["rarity"])
    wrong = tiny_skimmer() | {"rarity": np.full(len(WORDS), np.nan, dtype=np.float32)}
    replace(folder, SKIMMER_FILE, safetensors.numpy.save(wrong))
    with pytest.raises(e.InvalidTensorError, match="rarity"):
        load_artifact(folder).load_skimmer()
    assert [type(defect) for defect in find_defects(folder)] == [e.InvalidTensorError]
    replace(folder, SKIMMER_FILE, safetensors.numpy.save(tiny_skimmer(vocabulary=7)))
    assert_refused(folder, e.InvalidTensorError, "rarity")


def test_a_table_that_skims_without_a_skimmer(tmp_path: Path) -> None:
    folder = publish_skimming(tmp_path).path
    (folder / SKIMMER_FILE).unlink()
    edit_manifest(folder, lambda manifest: manifest["files"].pop(SKIMMER_FILE))
    assert_refused(folder, e.InvalidTableError, "skim")


def test_verify_lists_every_defect(folder: Path) -> None:
    (folder / "MODEL_CARD.md").unlink()
    (folder / "extra").touch()
    (folder / "tokenizer.json").write_bytes(b"{}")
    found = {type(defect) for defect in find_defects(folder)}
    assert found == {e.MissingFileError, e.UnexpectedFileError, e.TruncatedFileError}
