"""Profiles on disk: found by key, refused when they are another's or damaged, never half written."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server import profiles
from server.profiles import ProfileMismatchError, load_profile, profile_path, require_writable, store_profile
from server.routing.profile import InvalidProfileError, ProfileKey
from tests.server.routing.test_profile import KEY, PROFILE

OTHERS = [
    replace(KEY, artifact="sha256:1"),
    replace(KEY, engine="reference"),
    replace(KEY, precision="int8+bf16"),
    replace(KEY, cpu="Some other CPU"),
    replace(KEY, threads=4),
]


def test_a_stored_profile_is_found_by_its_key(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "when needed"
    path = store_profile(folder, PROFILE)
    assert load_profile(folder, KEY) == PROFILE
    assert list(folder.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("key", OTHERS)
def test_another_key_is_another_profile(tmp_path: Path, key: ProfileKey) -> None:
    store_profile(tmp_path, PROFILE)
    assert load_profile(tmp_path, key) is None
    store_profile(tmp_path, replace(PROFILE, key=key, answer_ns=99.0))
    assert load_profile(tmp_path, KEY) == PROFILE


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    assert load_profile(tmp_path, KEY) is None
    assert load_profile(tmp_path / "no" / "folder", KEY) is None
    (tmp_path / "file").touch()
    assert load_profile(tmp_path / "file", KEY) is None


def test_a_later_profile_takes_the_place_of_the_earlier(tmp_path: Path) -> None:
    store_profile(tmp_path, PROFILE)
    later = replace(PROFILE, measured="probed")
    store_profile(tmp_path, later)
    assert load_profile(tmp_path, KEY) == later
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("key", OTHERS)
def test_a_profile_under_a_wrong_name_is_refused_by_the_field_that_differs(tmp_path: Path, key: ProfileKey) -> None:
    store_profile(tmp_path, PROFILE).rename(profile_path(tmp_path, key))
    with pytest.raises(ProfileMismatchError) as caught:
        load_profile(tmp_path, key)
    error = caught.value
    assert (error.wanted, error.found) == (getattr(key, error.field), getattr(KEY, error.field))
    assert error.wanted != error.found
    assert all(word in str(error) for word in (error.field, repr(error.wanted), repr(error.found)))


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[]", b" " * (2 << 20)])
def test_a_damaged_file_is_refused_by_its_path(tmp_path: Path, damage: bytes) -> None:
    path = store_profile(tmp_path, PROFILE)
    path.write_bytes(damage)
    with pytest.raises(InvalidProfileError) as caught:
        load_profile(tmp_path, KEY)
    assert str(path) in str(caught.value)


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    path = profile_path(tmp_path, KEY)
    path.mkdir()
    with pytest.raises(InvalidProfileError, match="regular file"):
        load_profile(tmp_path, KEY)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(InvalidProfileError, match="regular file"):
        load_profile(tmp_path, KEY)


def test_a_link_to_a_profile_is_followed(tmp_path: Path) -> None:
    store_profile(tmp_path / "data", PROFILE)
    (tmp_path / "mounted").symlink_to(tmp_path / "data")
    assert load_profile(tmp_path / "mounted", KEY) == PROFILE


@pytest.mark.parametrize("step", ["write_durably", "replace"])
def test_a_full_disk_loses_neither_the_earlier_profile_nor_leaves_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = store_profile(tmp_path, PROFILE)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

    monkeypatch.setattr(profiles if step == "write_durably" else Path, step, full)
    with pytest.raises(OSError, match="No space left"):
        store_profile(tmp_path, replace(PROFILE, answer_ns=99.0))
    monkeypatch.undo()
    assert load_profile(tmp_path, KEY) == PROFILE
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_to_is_told_before_and_after(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="file"):
            require_writable(folder)
        with pytest.raises(OSError, match="file"):
            store_profile(folder, PROFILE)
    require_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_the_file_is_readable_json(tmp_path: Path) -> None:
    document = json.loads(store_profile(tmp_path, PROFILE).read_text())
    assert document["key"]["cpu"] == KEY.cpu
    assert document["format_version"] == 1
