"""Settings: from the environment, frozen, explained."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from server.cli import app
from server.settings import Settings, packaged_store


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEEWAY_PORT", "9000")
    monkeypatch.setenv("LEEWAY_STORE", "models")
    settings = Settings()
    assert (settings.port, settings.store) == (9000, Path("models"))


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEEWAY_PORT", "9000")
    assert Settings(port=9001).port == 9001


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "0"), ("PORT", "many"), ("ENGINE", "gpu"), ("MAX_QUEUE", "-1"), ("PRECISION", "int4")]
)
def test_an_impossible_setting_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"LEEWAY_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_the_default_store_is_the_packaged_one() -> None:
    assert packaged_store() == Settings().store
    assert packaged_store().parts[-2:] == ("model_store", "artifacts")


def test_profiles_are_kept_in_the_cache_folder_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/someone")
    assert Settings().profile_dir == Path("/var/cache/someone/leeway/profiles")
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        monkeypatch.setenv("HOME", "/home/someone")
        assert Settings().profile_dir == Path("/home/someone/.cache/leeway/profiles")
    monkeypatch.setenv("LEEWAY_PROFILE_DIR", "/elsewhere")
    assert Settings().profile_dir == Path("/elsewhere")


def test_a_user_without_a_home_has_no_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert Settings().profile_dir is None


def test_a_100_kilobyte_context_fits_the_defaults_even_when_it_is_escaped() -> None:
    settings = Settings()
    assert settings.max_context_chars >= 100_000
    assert settings.max_body_bytes >= 6 * 100_000


def test_the_help_of_serve_explains_every_setting() -> None:
    result = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert result.exit_code == 0
    words = " ".join(result.output.replace("│", " ").split())
    for name, field in Settings.model_fields.items():
        assert field.description
        assert f"--{name.replace('_', '-')}" in words
        assert f"LEEWAY_{name.upper()}" in words
        assert field.description in words
