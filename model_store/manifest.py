"""The manifest: what an artifact says about itself.  FORMAT.md, "manifest.json"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from model_store.architecture import Architecture
from model_store.errors import InvalidManifestError, PathOutsideStoreError, UnknownFormatVersionError
from model_store.strict_json import Fields, dump, parse

FORMAT_VERSION = 1
SUPPORTED_FORMAT_VERSIONS = (1,)

MANIFEST_FILE = "manifest.json"
CARD_FILE = "MODEL_CARD.md"
TOKENIZER_FILE = "tokenizer.json"
TENSOR_FILE = "model.safetensors"
TABLE_FILE = "pareto_table.json"
REQUIRED_FILES = (CARD_FILE, TOKENIZER_FILE, TENSOR_FILE, TABLE_FILE)

SCHEMES = ("int8", "none")

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class TokenizerInfo:
    """What an engine and `reading` must know of ``tokenizer.json`` without opening it."""

    lowercase: bool
    cls_id: int
    sep_id: int
    pad_id: int
    kind: str = "wordpiece"

    def __post_init__(self) -> None:
        if self.kind != "wordpiece":
            raise InvalidManifestError(f"tokenizer.kind {self.kind!r:.40} is not supported (supported: 'wordpiece')")
        if len({self.cls_id, self.sep_id, self.pad_id}) < 3:
            raise InvalidManifestError("tokenizer: cls_id, sep_id and pad_id must differ")


@dataclass(frozen=True, slots=True)
class ReadingDefaults:
    """How texts are cut and answers chosen unless the caller says otherwise; all in tokens."""

    max_length: int
    overlap: int
    max_question: int
    max_answer: int

    def __post_init__(self) -> None:
        if self.overlap < 0 or self.max_question < 1 or self.max_answer < 1:
            raise InvalidManifestError("reading: overlap must be >= 0, max_question and max_answer >= 1")
        if self.max_length - self.max_question - 3 <= self.overlap:
            raise InvalidManifestError(
                f"reading: max_length {self.max_length} must leave more than the overlap of {self.overlap} beside a "
                f"question of {self.max_question} and three special tokens"
            )


@dataclass(frozen=True, slots=True)
class Quantization:
    """`scheme` is ``int8`` or ``none``; `details` is free-form and stands beside it in the manifest."""

    scheme: str
    details: Mapping[str, object]

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise InvalidManifestError(
                f"quantization.scheme {self.scheme!r:.40} is not supported (supported: {', '.join(SCHEMES)})"
            )


@dataclass(frozen=True, slots=True)
class Licence:
    """One thing that the model was made from (`what`), under which licence, and whom to name."""

    what: str
    licence: str
    attribution: str


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size in bytes and SHA-256 (lower-case hex) of one file."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a publisher says of a model; the store adds the rest of the manifest.

    Attributes:
        metrics: free-form, JSON values only.
        training: free-form provenance, JSON values only.
        licences: at least one.

    Raises:
        InvalidManifestError: no licence, special tokens outside the vocabulary, or windows longer than the
            model's positions.
    """

    architecture: Architecture
    tokenizer: TokenizerInfo
    reading: ReadingDefaults
    quantization: Quantization
    metrics: Mapping[str, object]
    training: Mapping[str, object]
    licences: tuple[Licence, ...]

    def __post_init__(self) -> None:
        special = (self.tokenizer.cls_id, self.tokenizer.sep_id, self.tokenizer.pad_id)
        if not all(0 <= token_id < self.architecture.vocabulary for token_id in special):
            raise InvalidManifestError(f"tokenizer: special tokens {special} are outside the vocabulary")
        if self.reading.max_length > self.architecture.positions:
            raise InvalidManifestError(
                f"reading.max_length {self.reading.max_length} is over {self.architecture.positions} positions"
            )
        if not self.licences:
            raise InvalidManifestError("licences must not be empty")


@dataclass(frozen=True, slots=True)
class Manifest(ModelDescription):
    """A whole manifest, format version 1.

    Attributes:
        created: UTC, ``2026-01-31T12:00:00Z``.
        files: every file of the artifact but the manifest.
    """

    name: str
    version: int
    created: str
    files: Mapping[str, FileEntry]

    @classmethod
    def of(
        cls, description: ModelDescription, name: str, version: int, created: datetime, files: Mapping[str, FileEntry]
    ) -> Manifest:
        """The manifest of `description` published as `name`@`version`; `created` must know its time zone."""
        said = {field.name: getattr(description, field.name) for field in fields(ModelDescription)}
        return cls(**said, name=name, version=version, created=created.astimezone(UTC).strftime(_TIME), files=files)

    def to_json(self) -> bytes:
        """The bytes of ``manifest.json``.

        Raises:
            InvalidManifestError: a free-form part holds what JSON cannot.
        """
        value: dict[str, object] = {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "version": self.version,
            "created": self.created,
            "architecture": asdict(self.architecture),
            "tokenizer": asdict(self.tokenizer),
            "reading": asdict(self.reading),
            "quantization": {**self.quantization.details, "scheme": self.quantization.scheme},
            "metrics": dict(self.metrics),
            "training": dict(self.training),
            "licences": [asdict(licence) for licence in self.licences],
            "files": {path: asdict(self.files[path]) for path in sorted(self.files)},
        }
        return dump(value, MANIFEST_FILE, InvalidManifestError)


def check_file_name(name: str) -> None:
    """Check a file name from a manifest before it touches the disk.

    Raises:
        PathOutsideStoreError: absolute, or with ``..``, a backslash or NUL.
        InvalidManifestError: another form than FORMAT.md allows, or the manifest's own name.
    """
    if name.startswith("/") or ".." in name or "\\" in name or "\0" in name:
        raise PathOutsideStoreError(f"the manifest lists {name!r:.80}, which may lead out of the artifact")
    if not _FILE_NAME.fullmatch(name) or name == MANIFEST_FILE:
        raise InvalidManifestError(f"the manifest lists {name!r:.80}, which is no allowed file name")


def parse_manifest(data: bytes, where: Path) -> Manifest:
    """The manifest in `data`, the bytes of the file `where`.

    Raises:
        UnknownFormatVersionError: says which are supported.
        PathOutsideStoreError: a listed file name that may lead out of the artifact.
        InvalidManifestError: anything else that FORMAT.md does not allow.
    """
    top = parse(data, str(where), InvalidManifestError)
    found = top.values.get("format_version")
    if isinstance(found, bool) or not isinstance(found, int) or found not in SUPPORTED_FORMAT_VERSIONS:
        raise UnknownFormatVersionError(str(where), found, SUPPORTED_FORMAT_VERSIONS)
    quantization = top.object("quantization")
    return Manifest(
        architecture=_architecture(top.object("architecture")),
        tokenizer=_tokenizer(top.object("tokenizer")),
        reading=_reading(top.object("reading")),
        quantization=Quantization(
            quantization.text("scheme"), {k: v for k, v in quantization.values.items() if k != "scheme"}
        ),
        metrics=top.object("metrics").values,
        training=top.object("training").values,
        licences=tuple(
            Licence(entry.text("what"), entry.text("licence"), entry.text("attribution"))
            for entry in top.objects("licences")
        ),
        name=top.text("name"),
        version=top.integer("version"),
        created=_created(top),
        files=_files(top.object("files")),
    )


def _architecture(part: Fields) -> Architecture:
    part.only(*(field.name for field in fields(Architecture)))
    return Architecture(
        layers=part.integer("layers"),
        hidden=part.integer("hidden"),
        heads=part.integer("heads"),
        intermediate=part.integer("intermediate"),
        vocabulary=part.integer("vocabulary"),
        positions=part.integer("positions"),
        segments=part.integer("segments"),
        layer_norm_epsilon=part.number("layer_norm_epsilon"),
        activation=part.text("activation"),
        family=part.text("family"),
        significance=part.text("significance", "all"),
    )


def _tokenizer(part: Fields) -> TokenizerInfo:
    part.only(*(field.name for field in fields(TokenizerInfo)))
    ids = (part.integer("cls_id"), part.integer("sep_id"), part.integer("pad_id"))
    return TokenizerInfo(part.boolean("lowercase"), *ids, kind=part.text("kind"))


def _reading(part: Fields) -> ReadingDefaults:
    names = tuple(field.name for field in fields(ReadingDefaults))
    part.only(*names)
    return ReadingDefaults(*(part.integer(name) for name in names))


def _created(top: Fields) -> str:
    created = top.text("created")
    try:
        datetime.strptime(created, _TIME).replace(tzinfo=UTC)
    except ValueError as error:
        raise top.fail("created", "a UTC time such as 2026-01-31T12:00:00Z") from error
    return created


def _files(part: Fields) -> dict[str, FileEntry]:
    entries: dict[str, FileEntry] = {}
    for name in part.values:
        check_file_name(name)
        entry = part.object(name)
        size, sha256 = entry.integer("size"), entry.text("sha256")
        if size < 0 or not _SHA256.fullmatch(sha256):
            raise InvalidManifestError(f"{entry.where}: size must not be negative and sha256 must be 64 hex digits")
        entries[name] = FileEntry(size, sha256)
    return entries
