"""A whole artifact: read, checked, and ready for an engine to build its graph from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model_store.errors import (
    DigestMismatchError,
    InvalidTableError,
    MissingFileError,
    ModelStoreError,
    TruncatedFileError,
    UnexpectedFileError,
)
from model_store.files import require_folder, require_regular_file, sha256_of
from model_store.manifest import (
    MANIFEST_FILE,
    REQUIRED_FILES,
    TABLE_FILE,
    TENSOR_FILE,
    TOKENIZER_FILE,
    FileEntry,
    Manifest,
    parse_manifest,
)
from model_store.pareto import ParetoTable, read_table
from model_store.skimmer import SKIMMER_FILE, check_skimmer_file, read_skimmer
from model_store.strict_json import read_bytes
from model_store.tensors import Tensors, check_tensor_file, read_tensors


@dataclass(frozen=True, slots=True)
class Artifact:
    """One published model.

    Attributes:
        path: the version folder.
        manifest: what the artifact says about itself.
        table: its Pareto table.
        digest: SHA-256 of the manifest's bytes, lower-case hex; stands for the whole artifact.
    """

    path: Path
    manifest: Manifest
    table: ParetoTable
    digest: str

    @property
    def tokenizer_path(self) -> Path:
        """The Hugging Face ``tokenizer.json``."""
        return self.path / TOKENIZER_FILE

    def load_tensors(self) -> Tensors:
        """Read and check all tensors; read anew at each call, so that the caller decides how long they live.

        Raises:
            InvalidTensorError: also for values that are not finite and scales that are not positive.
        """
        return read_tensors(self.path / TENSOR_FILE, self.manifest.architecture, self.manifest.quantization.scheme)

    @property
    def has_skimmer(self) -> bool:
        """Whether length configurations with an `input_ratio` can be run."""
        return SKIMMER_FILE in self.manifest.files

    def load_skimmer(self) -> Tensors:
        """Read and check the skimmer's tensors.

        Raises:
            InvalidTensorError: also for values that are not finite and scales that are not positive.
            MissingFileError: there is none (`has_skimmer`).
        """
        return read_skimmer(self.path / SKIMMER_FILE, self.manifest.architecture.vocabulary)


def load_artifact(folder: Path, *, verify_digests: bool = True) -> Artifact:
    """Read the artifact in `folder`.

    Without `verify_digests` the bytes are not hashed; presence, sizes and forms are checked all the same.
    Tensor *values* are checked by `Artifact.load_tensors`.

    Raises:
        ModelStoreError: the first defect, each of its own class (FORMAT.md, last section).
    """
    manifest, digest = _read_manifest(folder)
    for defect in _file_defects(folder, manifest, verify_digests=verify_digests):
        raise defect
    check_tensor_file(folder / TENSOR_FILE, manifest.architecture, manifest.quantization.scheme)
    if SKIMMER_FILE in manifest.files:
        check_skimmer_file(folder / SKIMMER_FILE, manifest.architecture.vocabulary)
    return Artifact(folder, manifest, _read_matching_table(folder, manifest), digest)


def find_defects(folder: Path) -> list[ModelStoreError]:
    """All defects of the artifact in `folder`, digests and tensor values included; empty if it is sound."""
    try:
        manifest, _ = _read_manifest(folder)
    except ModelStoreError as defect:
        return [defect]
    defects = list(_file_defects(folder, manifest, verify_digests=True))
    try:
        _read_matching_table(folder, manifest)
    except ModelStoreError as defect:
        defects.append(defect)
    try:
        read_tensors(folder / TENSOR_FILE, manifest.architecture, manifest.quantization.scheme)
    except ModelStoreError as defect:
        defects.append(defect)
    try:
        if SKIMMER_FILE in manifest.files:
            read_skimmer(folder / SKIMMER_FILE, manifest.architecture.vocabulary)
    except ModelStoreError as defect:
        defects.append(defect)
    return _without_repeats(defects)


def _without_repeats(defects: list[ModelStoreError]) -> list[ModelStoreError]:
    """One of each class and message: a missing table is found both as a file and as a table."""
    return list({(type(defect), str(defect)): defect for defect in defects}.values())


def _read_manifest(folder: Path) -> tuple[Manifest, str]:
    require_folder(folder)
    data = read_bytes(folder / MANIFEST_FILE)
    return parse_manifest(data, folder / MANIFEST_FILE), hashlib.sha256(data).hexdigest()


def _read_matching_table(folder: Path, manifest: Manifest) -> ParetoTable:
    table = read_table(folder / TABLE_FILE)
    if table.layers != manifest.architecture.layers:
        raise InvalidTableError(
            f"{folder / TABLE_FILE}: configurations of {table.layers} layers for a model of "
            f"{manifest.architecture.layers}"
        )
    if table.skims and SKIMMER_FILE not in manifest.files:
        raise InvalidTableError(f"{folder / TABLE_FILE}: configurations skim the text, but there is no {SKIMMER_FILE}")
    return table


def _file_defects(folder: Path, manifest: Manifest, *, verify_digests: bool) -> Iterator[ModelStoreError]:
    for name in REQUIRED_FILES:
        if name not in manifest.files:
            yield MissingFileError(f"{folder / MANIFEST_FILE} does not list {name}")
    for name, entry in manifest.files.items():
        try:
            _check_file(folder / name, entry, verify_digests=verify_digests)
        except ModelStoreError as defect:
            yield defect
    for path in sorted(folder.iterdir()):
        if path.name not in manifest.files and path.name != MANIFEST_FILE:
            yield UnexpectedFileError(f"{path} is not listed in the manifest")


def _check_file(path: Path, entry: FileEntry, *, verify_digests: bool) -> None:
    require_regular_file(path)
    size = path.stat().st_size
    if size < entry.size:
        raise TruncatedFileError(f"{path} has {size} bytes of {entry.size}")
    if size > entry.size:
        raise DigestMismatchError(f"{path} has {size} bytes, more than the published {entry.size}")
    if verify_digests and sha256_of(path) != entry.sha256:
        raise DigestMismatchError(f"{path} has other bytes than were published (SHA-256 differs)")
