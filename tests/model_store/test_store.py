"""The store: resolve, list, publish, roll back, sweep."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model_store import ModelDescription, ModelStore, publishing
from model_store import errors as e
from tests.model_store.tiny_artifact import publish_tiny, tiny_builder, write_tiny_files


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


def assert_nothing_visible(store: ModelStore) -> None:
    assert store.list_versions() == ()
    with pytest.raises(e.UnknownModelError):
        store.resolve("tiny")


def leftovers(store: ModelStore) -> list[Path]:
    return list(store.root.glob("*/.tmp-*"))


def test_versions_count_up_and_the_newest_is_the_latest(store: ModelStore) -> None:
    assert [publish_tiny(store.root).version for _ in range(3)] == [1, 2, 3]
    assert [(v.spec, v.is_latest) for v in store.list_versions()] == [
        ("tiny@1", False),
        ("tiny@2", False),
        ("tiny@3", True),
    ]
    assert store.resolve("tiny") == store.resolve("tiny@latest") == store.resolve("tiny@3")
    assert store.load("tiny@2").manifest.version == 2
    assert store.verify("tiny") == []
    assert leftovers(store) == []


def test_ten_is_later_than_nine(store: ModelStore) -> None:
    for version in (9, 10):
        store.publish("tiny", tiny_builder(), version=version)
    assert store.resolve("tiny").version == 10


def test_same_weights_give_the_same_bytes(store: ModelStore) -> None:
    first, second = publish_tiny(store.root), publish_tiny(store.root)
    weights = [(v.path / "model.safetensors").read_bytes() for v in (first, second)]
    assert weights[0] == weights[1]


def test_rollback_moves_the_latest_back_and_publication_moves_it_on(store: ModelStore) -> None:
    for _ in range(3):
        publish_tiny(store.root)
    assert store.rollback("tiny").version == 2
    assert store.rollback("tiny").version == 1
    assert store.resolve("tiny@latest").version == 1
    with pytest.raises(e.UnknownVersionError, match="before 1"):
        store.rollback("tiny")
    assert publish_tiny(store.root).version == 4
    assert store.resolve("tiny").version == 4


def test_rollback_to_a_damaged_version_changes_nothing(store: ModelStore) -> None:
    first = publish_tiny(store.root)
    publish_tiny(store.root)
    (first.path / "MODEL_CARD.md").unlink()
    with pytest.raises(e.MissingFileError):
        store.rollback("tiny")
    assert store.resolve("tiny").version == 2


@pytest.mark.parametrize("data", [b"", b"{}", b'{"version": "1"}', b"3"])
def test_damaged_pointer_is_an_error_and_hides_no_version(store: ModelStore, data: bytes) -> None:
    publish_tiny(store.root)
    (store.root / "tiny/latest.json").write_bytes(data)
    with pytest.raises(e.InvalidPointerError):
        store.resolve("tiny")
    assert store.resolve("tiny@1").version == 1
    assert len(store.list_versions()) == 1


def test_pointer_to_a_version_that_is_gone(store: ModelStore) -> None:
    publish_tiny(store.root)
    (store.root / "tiny/latest.json").write_bytes(b'{"version": 7}')
    with pytest.raises(e.UnknownVersionError, match="no version 7"):
        store.resolve("tiny")


def test_unknown_model_says_what_there_is(store: ModelStore) -> None:
    with pytest.raises(e.UnknownModelError, match="none"):
        store.resolve("tiny")
    publish_tiny(store.root)
    with pytest.raises(e.UnknownModelError, match="tiny"):
        store.resolve("other")
    with pytest.raises(e.UnknownVersionError, match="there are: 1"):
        store.resolve("tiny@2")


@pytest.mark.parametrize("spec", ["../tiny", "/etc", "a\\b", "a\0b", "tiny@../1", "a..b", "tiny@1/.."])
def test_spec_that_leads_out_of_the_store(store: ModelStore, spec: str) -> None:
    with pytest.raises(e.PathOutsideStoreError):
        store.resolve(spec)


@pytest.mark.parametrize("spec", ["", "Tiny", "-x", "a b", "a" * 65, "tiny@", "tiny@0", "tiny@01", "tiny@x", "tïny"])
def test_spec_of_another_form(store: ModelStore, spec: str) -> None:
    publish_tiny(store.root)
    with pytest.raises(e.InvalidModelNameError):
        store.resolve(spec)


@pytest.mark.parametrize("link", ["tiny", "other/1"])
def test_linked_model_or_version_folder(store: ModelStore, tmp_path: Path, link: str) -> None:
    outside = publish_tiny(tmp_path / "outside")
    path = store.root / link
    path.parent.mkdir(parents=True)
    path.symlink_to(outside.path.parent if link == "tiny" else outside.path)
    with pytest.raises(e.PathOutsideStoreError):
        store.resolve(link.replace("/", "@"))


def test_taken_version_is_not_replaced(store: ModelStore) -> None:
    published = publish_tiny(store.root)
    before = store.load("tiny").digest
    with pytest.raises(e.VersionExistsError):
        store.publish("tiny", tiny_builder(seed=1), version=published.version)
    assert store.load("tiny").digest == before


def test_number_taken_by_another_publisher_is_skipped(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_tiny(store.root)
    real, calls = publishing.next_version, iter([1])
    monkeypatch.setattr(publishing, "next_version", lambda home: next(calls, None) or real(home))
    monkeypatch.setattr("model_store.publishing.os.path.lexists", lambda path: False)  # the rename itself must notice
    assert publish_tiny(store.root).version == 2
    assert store.load("tiny@2").manifest.version == 2


def test_concurrent_publishers_get_distinct_versions(store: ModelStore) -> None:
    barrier = threading.Barrier(4)

    def build(folder: Path) -> ModelDescription:
        description = write_tiny_files(folder)
        barrier.wait(timeout=60)
        return description

    with ThreadPoolExecutor(4) as pool:
        versions = [f.result().version for f in [pool.submit(store.publish, "tiny", build) for _ in range(4)]]
    assert sorted(versions) == [1, 2, 3, 4]
    assert all(store.verify(f"tiny@{version}") == [] for version in versions)


@pytest.mark.parametrize("moment", ["build", "rename"])
def test_killed_publisher_leaves_nothing_visible_and_can_be_swept(store: ModelStore, moment: str) -> None:
    code = f"""
import os, signal, sys
from pathlib import Path
from model_store import ModelStore
from tests.model_store.tiny_artifact import write_tiny_files

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def build(folder):
    description = write_tiny_files(folder)
    if {moment!r} == "build":
        die()
    Path.rename = die
    return description

ModelStore(Path(sys.argv[1])).publish("tiny", build)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(store.root)], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    assert_nothing_visible(store)
    (left,) = leftovers(store)
    modified = left.stat().st_mtime
    assert store.sweep(now_seconds=modified + 60) == ()
    assert publish_tiny(store.root).version == 1
    assert store.sweep(now_seconds=modified + 2 * 24 * 3600) == (left,)
    assert leftovers(store) == []
    assert store.verify("tiny@1") == []


def test_full_disk_while_building_leaves_nothing(store: ModelStore) -> None:
    def build(folder: Path) -> ModelDescription:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(e.StoreFullError):
        store.publish("tiny", build)
    assert_nothing_visible(store)
    assert leftovers(store) == []


def test_full_disk_while_flushing_leaves_nothing(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(publishing, "fsync", full)
    with pytest.raises(e.StoreFullError):
        publish_tiny(store.root)
    assert_nothing_visible(store)
    assert leftovers(store) == []


def test_other_system_errors_pass_through(store: ModelStore) -> None:
    def build(folder: Path) -> ModelDescription:
        raise PermissionError(errno.EACCES, "no")

    with pytest.raises(PermissionError):
        store.publish("tiny", build)
    assert leftovers(store) == []


@pytest.mark.parametrize(
    ("name", "error"), [("link", e.PathOutsideStoreError), ("folder", e.UnexpectedFileError),
                        ("manifest.json", e.UnexpectedFileError), ("MODEL_CARD.md", e.MissingFileError)],
)  # fmt: skip
def test_builder_with_wrong_files_publishes_nothing(store: ModelStore, name: str, error: type[Exception]) -> None:
    def build(folder: Path) -> ModelDescription:
        description = write_tiny_files(folder)
        if name == "link":
            (folder / name).symlink_to("/etc/passwd")
        elif name == "folder":
            (folder / name).mkdir()
        elif name == "manifest.json":
            (folder / name).touch()
        else:
            (folder / name).unlink()
        return description

    with pytest.raises(error):
        store.publish("tiny", build)
    assert_nothing_visible(store)
    assert leftovers(store) == []


def test_reading_changes_nothing_on_the_disk(store: ModelStore) -> None:
    publish_tiny(store.root)
    folders = [store.root, *(path for path in store.root.rglob("*") if path.is_dir())]
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    for folder in folders:
        folder.chmod(0o555)
    try:
        store.load("tiny").load_tensors()
        assert store.verify("tiny") == []
        assert len(store.list_versions()) == 1
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == before
    missing = ModelStore(store.root / "nowhere")
    assert missing.list_versions() == ()
    assert not missing.root.exists()
