"""The door of a daemon that this program may not use."""

from __future__ import annotations

from pathlib import Path

import pytest

from mattebridge.errors import UidError
from mattebridge.wire import oslayer
from mattebridge.wire.door import Door


def test_a_daemon_that_the_system_keeps_apart_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Windows does where one of the two programs runs as administrator."""
    folder, layer = tmp_path / "v1", oslayer.current()
    folder.mkdir(mode=0o700)

    def refused(_self: object, path: Path) -> None:
        raise PermissionError(13, "Access is denied", str(path))

    monkeypatch.setattr(type(layer), "connect", refused)
    with pytest.raises(UidError, match="does not let this program in: start your own") as caught:
        Door.connect(folder)
    assert str(folder) in str(caught.value)
    assert layer.same_user in str(caught.value)
