"""What the daemon allows: defaults from the machine, overridden by the environment."""

from __future__ import annotations

import dataclasses

import pytest

from mattebridge.daemon.limits import Limits
from mattebridge.errors import UsageError
from mattebridge.wire import oslayer

DEFAULTS = {
    "MATTEBRIDGE_MAX_SESSIONS": ("sessions", 64),
    "MATTEBRIDGE_MAX_ARENAS": ("arenas_per_session", 8),
    "MATTEBRIDGE_QUEUE": ("queue", 256),
    "MATTEBRIDGE_HELLO_S": ("hello_s", 3.0),
    "MATTEBRIDGE_OUTBOX_S": ("outbox_s", 10.0),
    "MATTEBRIDGE_BATCH_AGEING_S": ("batch_ageing_s", 10.0),
    "MATTEBRIDGE_WORKER_IDLE_S": ("worker_idle_s", 600.0),
    "MATTEBRIDGE_DRAIN_S": ("drain_s", 30.0),
    "MATTEBRIDGE_WATCHDOG_S": ("watchdog_s", 60.0),
    "MATTEBRIDGE_WATCHDOG_FIRST_S": ("watchdog_first_s", 300.0),
    "MATTEBRIDGE_WATCHDOG_FACTOR": ("watchdog_factor", 10.0),
    "MATTEBRIDGE_RESTARTS": ("restarts", 5),
}
SHARES = {
    "MATTEBRIDGE_SLOT_BYTES": ("slot_bytes", 2),
    "MATTEBRIDGE_SESSION_BYTES": ("session_bytes", 4),
    "MATTEBRIDGE_PLATE_BYTES": ("plate_bytes", 8),
    "MATTEBRIDGE_MODEL_BYTES": ("model_bytes", 4),
    "MATTEBRIDGE_FRAME_BYTES": ("frame_bytes", 16),
}


@pytest.mark.parametrize("variable", DEFAULTS)
def test_a_limit_has_its_default_and_follows_its_variable(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, default = DEFAULTS[variable]
    assert getattr(Limits(), name) == default
    monkeypatch.setenv(variable, "7")
    assert getattr(Limits(), name) == 7
    assert type(getattr(Limits(), name)) is type(default)
    monkeypatch.setenv(variable, "")
    assert getattr(Limits(), name) == default


@pytest.mark.parametrize("variable", SHARES)
def test_bytes_are_a_share_of_the_machines_memory(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, share = SHARES[variable]
    assert getattr(Limits(), name) == oslayer.current().total_memory_bytes() // share
    monkeypatch.setenv(variable, str(1 << 33))
    assert getattr(Limits(), name) == 1 << 33


def test_every_limit_that_is_read_from_the_environment_is_named_here() -> None:
    named = {name for name, _value in [*DEFAULTS.values(), *SHARES.values()]}
    assert {field.name for field in dataclasses.fields(Limits)} == named | {
        "idle_exit_s",
        "parent_pid",
    }


@pytest.mark.parametrize("value", ["many", "1.5", "-1", "nan", "inf", "1e3", " "])
def test_a_number_that_is_none_is_refused_with_the_name_of_its_variable(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATTEBRIDGE_QUEUE", value)
    with pytest.raises(UsageError, match="MATTEBRIDGE_QUEUE must"):
        Limits()


@pytest.mark.parametrize("value", ["soon", "-0.5", "nan", "inf"])
def test_a_time_that_is_none_is_refused_too(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATTEBRIDGE_DRAIN_S", value)
    with pytest.raises(UsageError, match="MATTEBRIDGE_DRAIN_S must"):
        Limits()


def test_a_given_limit_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATTEBRIDGE_QUEUE", "7")
    assert Limits(queue=3).queue == 3
    assert Limits().idle_exit_s is None


def test_the_machines_memory_is_plausible() -> None:
    layer = oslayer.current()
    assert 0 < layer.available_memory_bytes() <= layer.total_memory_bytes()
