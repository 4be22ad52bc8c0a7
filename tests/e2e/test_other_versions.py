"""A daemon that an update left running: it speaks another protocol, and can be seen and stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from fakes.daemon_process import DaemonProcess, is_alive, wait_for
from fakes.other_versions import ANOTHER_PROTOCOL, OLDER_KEYS, OLDER_RELEASE
from fakes.pictures import shot
from mattebridge import cli
from mattebridge.client import MatteClient
from mattebridge.daemon import control
from mattebridge.errors import MessageError, VersionError
from mattebridge.hosts import route
from mattebridge.version import __version__, other_release


def started(program: str) -> DaemonProcess:
    daemon = DaemonProcess(light=True)
    daemon.program = [daemon.python, "-c", program]
    daemon.start(wait=False)
    wait_for(lambda: control._accepts(daemon.folder), 60, daemon.words)
    wait_for(lambda: (daemon.folder / "status.json").exists(), 60, daemon.words)
    return daemon


@pytest.fixture
def daemon() -> Iterator[DaemonProcess]:
    left = started(ANOTHER_PROTOCOL)
    yield left
    left.end()


def test_the_refusal_names_the_process_the_folder_and_the_way_out(daemon: DaemonProcess) -> None:
    with pytest.raises(VersionError) as caught:
        MatteClient.connect(str(daemon.folder))
    said = str(caught.value)
    assert "the client speaks 1-1, this daemon 7-9. The client is older: install it again" in said
    assert f"The daemon in {daemon.folder} is process {daemon.pid}" in said
    assert "`mattebridge stop` ends it" in said
    assert caught.value.details["pid"] == daemon.pid


@pytest.mark.parametrize("command", [["models", "list"], ["serve", "--detach"]])
def test_commands_that_need_the_daemon_name_its_process(
    command: list[str], daemon: DaemonProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, "--instance", str(daemon.folder)]) == 2
    assert f"process {daemon.pid}: `mattebridge stop` ends it" in capsys.readouterr().err


def test_status_shows_what_the_daemon_wrote_about_itself(
    daemon: DaemonProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    # A file cannot mislead it about the process.
    status = json.loads((daemon.folder / "status.json").read_text())
    (daemon.folder / "status.json").write_text(json.dumps({**status, "pid": 1}))
    assert cli.main(["status", "--instance", str(daemon.folder)]) == 0
    said = capsys.readouterr().out
    assert "this daemon 7-9" in said
    for value in (daemon.pid, daemon.folder, status["version"]):
        assert str(value) in said
    # The daemon may have written its file again meanwhile.
    assert "starting" in said or "ready" in said
    assert cli.main(["status", "--json", "--instance", str(daemon.folder)]) == 0
    known = json.loads(capsys.readouterr().out)
    assert (known["pid"], known["protocol"]) == (daemon.pid, [7, 9])


def test_status_needs_no_file_of_the_daemon(
    daemon: DaemonProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    (daemon.folder / "status.json").write_text('["not what it was"]')
    assert cli.main(["status", "--instance", str(daemon.folder)]) == 0
    assert str(daemon.pid) in capsys.readouterr().out


def test_a_daemon_of_an_older_release_serves_what_it_knows_and_what_it_lacks_says_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    daemon = started(OLDER_RELEASE)
    what_to_do = (
        f"the daemon is mattebridge 0.0.9, older than {__version__} here: end it with `mattebridge"
        " stop`, and start the new one"
    )
    try:
        plate, clean_plate = shot(seed=5)
        with MatteClient.connect(str(daemon.folder)) as client:
            assert client.matte(plate, clean_plate).alpha.max() > 0.9
            with pytest.raises(MessageError) as caught:
                client.matte(plate, clean_plate, nonfinite="zero")
        assert caught.value.message == f"params has no key: nonfinite; {what_to_do}"
        assert caught.value.details["field"] == "nonfinite"
        line = route.status_line(str(daemon.folder))
        assert f", mattebridge 0.0.9, process {daemon.pid} in " in line
        assert line.endswith(what_to_do)
        assert cli.main(["status", "--instance", str(daemon.folder)]) == 0
        assert f"note: {what_to_do}" in capsys.readouterr().out
        assert cli.main(["stop", "--instance", str(daemon.folder)]) == 0
        assert daemon.process is not None
        assert daemon.process.wait(60) == 0
    finally:
        daemon.end()


def test_a_newer_daemon_asks_for_the_node_and_an_equal_one_for_nothing() -> None:
    newer = other_release("99.1")
    assert newer.startswith(f"the daemon is mattebridge 99.1, newer than {__version__} here: run")
    assert "`mattebridge install`" in newer
    assert other_release(__version__) == other_release("") == ""


@pytest.mark.parametrize("program", [ANOTHER_PROTOCOL, OLDER_KEYS], ids=["protocol", "keys"])
def test_stop_ends_it_cleanly(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    daemon = started(program)
    try:
        assert daemon.process is not None
        assert cli.main(["stop", "--instance", str(daemon.folder)]) == 0
        assert "the daemon has stopped" in capsys.readouterr().out
        assert daemon.process.wait(60) == 0
        assert "draining: SIGTERM" in daemon.log()
        assert not (daemon.folder / "door").exists()
    finally:
        daemon.end()


def test_stop_if_unused_leaves_it_to_those_who_may_use_it(
    daemon: DaemonProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["stop", "--if-unused", "--instance", str(daemon.folder)]) == 0
    said = capsys.readouterr().out
    assert "left running until its idle limit" in said
    assert f"process {daemon.pid}" in said
    assert is_alive(daemon.pid)
