"""The store: a folder of versioned artifacts.  Reading needs no write access."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from model_store.artifact import Artifact, find_defects, load_artifact
from model_store.errors import (
    InvalidManifestError,
    InvalidPointerError,
    ModelStoreError,
    UnknownModelError,
    UnknownVersionError,
)
from model_store.files import fsync, require_folder, write_durably
from model_store.manifest import MANIFEST_FILE, parse_manifest
from model_store.names import check_name, parse_spec, version_number
from model_store.publishing import POINTER_FILE, TEMPORARY_PREFIX, Builder, publish, temporary_path
from model_store.strict_json import dump, parse, read_bytes

STALE_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A published version: where it is, and whether ``name@latest`` means it."""

    name: str
    version: int
    path: Path
    is_latest: bool

    @property
    def spec(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"


class ModelStore:
    """The artifacts below one folder.

    Args:
        root: the store's folder; it is made by the first publication and may be read-only for all else.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def resolve(self, spec: str) -> StoredVersion:
        """The version that ``name``, ``name@latest`` or ``name@3`` means.

        Raises:
            InvalidModelNameError, PathOutsideStoreError: not such a spec, or a link.
            UnknownModelError, UnknownVersionError: says what there is.
            InvalidPointerError: ``latest.json`` is damaged (asked for the latest only).
        """
        name, version = parse_spec(spec)
        versions = self._published(name)
        latest = self._latest(name, versions) if version is None else version
        if latest not in versions:
            raise UnknownVersionError(f"{name} has no version {latest} (there are: {_listed(versions)})")
        path = self._home(name) / str(latest)
        require_folder(path)
        return StoredVersion(name, latest, path, is_latest=self._is_latest(name, latest, versions))

    def load(self, spec: str, *, verify_digests: bool = True) -> Artifact:
        """The artifact that `spec` means, checked.

        Raises:
            ModelStoreError: as `resolve` and `load_artifact`; `InvalidManifestError` also if the manifest was
                made for another place in the store.
        """
        stored = self.resolve(spec)
        artifact = load_artifact(stored.path, verify_digests=verify_digests)
        _check_place(stored, artifact.manifest.name, artifact.manifest.version)
        return artifact

    def verify(self, spec: str) -> list[ModelStoreError]:
        """All defects of the artifact that `spec` means; empty if it is sound.

        Raises:
            ModelStoreError: as `resolve`.
        """
        stored = self.resolve(spec)
        defects = find_defects(stored.path)
        try:
            manifest = parse_manifest(read_bytes(stored.path / MANIFEST_FILE), stored.path / MANIFEST_FILE)
            _check_place(stored, manifest.name, manifest.version)
        except InvalidManifestError as defect:
            if str(defect) not in map(str, defects):
                defects.append(defect)
        except ModelStoreError:
            pass  # among the defects already
        return defects

    def list_versions(self, name: str | None = None) -> tuple[StoredVersion, ...]:
        """Published versions by name and number, of one model or of all; unfinished ones are not there.

        Raises:
            InvalidModelNameError, PathOutsideStoreError: `name` is no model name.
        """
        found: list[StoredVersion] = []
        for model in [name] if name is not None else self._names():
            check_name(model)
            try:
                versions = self._published(model)
            except UnknownModelError:
                continue
            for version in versions:
                latest = self._is_latest(model, version, versions)
                found.append(StoredVersion(model, version, self._home(model) / str(version), is_latest=latest))
        return tuple(found)

    def publish(
        self, name: str, build: Builder, *, version: int | None = None, created: datetime | None = None
    ) -> StoredVersion:
        """Publish what `build` writes, atomically, and make it the latest version.

        `build` gets an empty folder, writes ``MODEL_CARD.md``, ``tokenizer.json``, ``model.safetensors`` and
        ``pareto_table.json`` there (and more, if it likes), and returns the description of the model.
        Whatever fails, nothing half-published is visible.

        Args:
            name: the model's name; its folder is made if need be.
            build: see above.
            version: the number to take; by default the next one, whoever else publishes meanwhile.
            created: by default now; must know its time zone.

        Raises:
            VersionExistsError: `version` is taken.
            StoreFullError: no space left.
            ModelStoreError: the first defect of what was built.
        """
        check_name(name)
        if version is not None and version_number(str(version)) is None:
            raise UnknownVersionError(f"{version} cannot be published: versions are positive, at most nine digits")
        number = publish(self.root, name, build, version, created or datetime.now(UTC))
        return self.resolve(f"{name}@{number}")

    def rollback(self, name: str) -> StoredVersion:
        """Make the version before the latest one the latest, after checking that it is sound.

        Raises:
            UnknownVersionError: there is none before it.
            ModelStoreError: as `load`; nothing has changed then.
        """
        current = self.resolve(name).version
        earlier = [version for version in self._published(name) if version < current]
        if not earlier:
            raise UnknownVersionError(f"{name} has no version before {current}")
        self.load(f"{name}@{earlier[-1]}")
        self._write_pointer(name, earlier[-1])
        return self.resolve(name)

    def sweep(self, *, older_than_seconds: float = STALE_SECONDS, now_seconds: float | None = None) -> tuple[Path, ...]:
        """Delete what killed publishers left behind, and say what that was.

        Args:
            older_than_seconds: younger leftovers may belong to a publisher at work and stay.
            now_seconds: seconds since the epoch; by default now.
        """
        now = time.time() if now_seconds is None else now_seconds
        swept: list[Path] = []
        for name in self._names():
            for path in sorted(self._home(name).glob(f"{TEMPORARY_PREFIX}*")):
                if now - path.lstat().st_mtime <= older_than_seconds:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
                swept.append(path)
        return tuple(swept)

    def _home(self, name: str) -> Path:
        return self.root / name

    def _names(self) -> list[str]:
        if not self.root.is_dir():
            return []
        names: list[str] = []
        for path in sorted(self.root.iterdir()):
            try:
                check_name(path.name)
                require_folder(path)
            except ModelStoreError:
                continue  # no model
            names.append(path.name)
        return names

    def _published(self, name: str) -> list[int]:
        """Version numbers, lowest first, at least one."""
        home = self._home(name)
        versions: list[int] = []
        if home.is_symlink() or home.is_dir():
            require_folder(home)
            numbers = [version_number(path.name) for path in home.iterdir()]
            versions = sorted(number for number in numbers if number is not None)
        if not versions:
            known = ", ".join(self._names()) or "none"
            raise UnknownModelError(f"{self.root} has no model {name!r} (there are: {known})")
        return versions

    def _latest(self, name: str, versions: list[int]) -> int:
        path = self._home(name) / POINTER_FILE
        if not path.is_symlink() and not path.exists():
            return versions[-1]
        try:
            data = read_bytes(path)
        except FileNotFoundError:  # a publication has removed it meanwhile
            return versions[-1]
        return parse(data, str(path), InvalidPointerError).integer("version")

    def _is_latest(self, name: str, version: int, versions: list[int]) -> bool:
        try:
            return self._latest(name, versions) == version
        except ModelStoreError:
            return False  # a damaged pointer must not hide the versions

    def _write_pointer(self, name: str, version: int) -> None:
        home = self._home(name)
        temporary = temporary_path(home)
        try:
            write_durably(temporary, dump({"version": version}, POINTER_FILE, InvalidPointerError))
            temporary.replace(home / POINTER_FILE)
        finally:
            temporary.unlink(missing_ok=True)
        fsync(home)


def _check_place(stored: StoredVersion, name: str, version: int) -> None:
    if (name, version) != (stored.name, stored.version):
        raise InvalidManifestError(f"{stored.path / MANIFEST_FILE} is of {name}@{version}, not of {stored.spec}")


def _listed(versions: list[int]) -> str:
    return ", ".join(map(str, versions))
