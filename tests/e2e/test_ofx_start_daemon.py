"""The plugin's button *Start daemon*: which program it runs, what it says, and that nothing else
starts one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fakes.daemon_panel import BUSY, NOT_LOOKED, STARTING, found, pressed
from fakes.daemon_process import DaemonProcess, children, wait_for
from fakes.light_python import light_python, matted_light
from fakes.limits import SOON_S
from fakes.ofx_host import DEFAULT, FAILED, GENERAL, OK, HostImage, Instance, OfxHost
from fakes.ofx_scene import scene
from mattebridge.client import MatteClient
from mattebridge.daemon import control
from mattebridge.hosts.panel_line import line_of
from mattebridge.interpreter import HOST_VARIABLES
from mattebridge.version import __version__


@pytest.fixture(autouse=True)
def nothing_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by a variable, nor by a note of the user's, nor by a command on PATH."""
    monkeypatch.delenv("MATTEBRIDGE_DAEMON_PYTHON", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder of a daemon that does not run yet; whatever runs in it at the end is stopped."""
    place = DaemonProcess().home / "run"
    yield place
    control.stop(str(place))
    place.parent.rmdir() if not any(place.parent.iterdir()) else None


def node_for(host: OfxHost, folder: Path) -> Instance:
    plate, clean_plate = scene()
    node = host.create(GENERAL, endpoint=str(folder), inputColor=0, model="difference")
    return node.connect(Source=HostImage(plate), Background=HostImage(clean_plate))


def started(node: Instance) -> str:
    """What the panel says of the daemon that a click starts, however slow the machine is."""
    line = pressed(node)
    wait_for(
        lambda: line != STARTING or pressed(node, "daemonStatus").startswith("daemon "),
        SOON_S,
        "the daemon starts",
    )
    return found(node)


def program(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def note(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config" / "mattebridge" / "daemon.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.parent.chmod(0o700)
    path.chmod(0o600)
    return path


# ---------------------------------------------------------------------------------------------
# A daemon


def test_the_button_starts_the_configured_daemon_and_frames_are_rendered_then(
    host: OfxHost, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", light_python())
    for name in HOST_VARIABLES:
        if name != "LD_PRELOAD":  # the loader of every program would complain of it
            monkeypatch.setenv(name, "/nonexistent/of the host")
    node = node_for(host, folder)
    before = set(children(os.getpid()))
    assert pressed(node, "daemonStatus") == (
        f"no daemon is running in {folder}: press Start daemon, or run `mattebridge serve --detach`"
    )
    assert node.render()[0] == FAILED
    line = started(node)
    with MatteClient.connect(str(folder)) as client:
        status = client.status()
    assert line.startswith(f"daemon {status['state']}, mattebridge {__version__}, process ")
    assert f", process {status['pid']} in {folder}; " in line
    assert set(children(os.getpid())) == before  # neither a child nor a zombie of the host's
    assert f", process {status['pid']} in " in pressed(node)  # it starts no second one
    given, output = node.render()
    assert (given, node.message) == (OK, None)
    expected = matted_light(*scene())["premultiplied"]
    assert np.array_equal(output.pixels(), expected)
    environment = Path(f"/proc/{status['pid']}/environ").read_bytes()
    assert b"/nonexistent/of the host" not in environment


def test_the_line_is_that_of_the_python_nodes(host: OfxHost, shared_daemon: DaemonProcess) -> None:
    node = node_for(host, shared_daemon.folder)
    line = pressed(node, "daemonStatus")
    with shared_daemon.client() as client:
        assert line == line_of(client.status())
    assert pressed(node) == line


@pytest.mark.parametrize(
    ("name", "kind"), [("Source", "OfxTypeClip"), ("model", "OfxTypeParameter")]
)
def test_the_first_input_or_knob_that_changes_fills_the_line_and_no_later_one(
    host: OfxHost, shared_daemon: DaemonProcess, tmp_path: Path, name: str, kind: str
) -> None:
    """Neither when the node is made nor by the host itself; a render changes nothing."""
    node = node_for(host, shared_daemon.folder)
    assert node.changed(name, "OfxChangePluginEdited", kind) == DEFAULT
    assert node.render()[0] == OK
    assert found(node) == NOT_LOOKED
    assert node.changed(name, kind=kind) == OK
    # A twentieth of a second may be too short for a daemon on a busy machine.
    assert found(node).startswith("daemon ready, ") or found(node) == BUSY
    line = found(node)
    assert node.changed(name, kind=kind) == DEFAULT
    assert found(node) == line
    alone = node_for(host, tmp_path / "v1")
    assert alone.changed(name, kind=kind) == OK
    assert found(alone).startswith(f"no daemon is running in {tmp_path / 'v1'}: ")


def test_a_daemon_that_hangs_is_said_to_and_no_other_is_started(
    host: OfxHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = program(tmp_path / "python", f"touch '{tmp_path}/ran'")
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", str(script))
    with DaemonProcess(light=True) as daemon:
        node = node_for(host, daemon.folder)
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            assert node.changed("model") == OK
            assert found(node) == BUSY
            expected = f"the daemon in {daemon.folder} does not answer: stop and start it"
            assert pressed(node, "daemonStatus") == expected
            assert pressed(node) == expected
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
        wait_for(lambda: pressed(node).startswith("daemon "), SOON_S, "it answers again")
    assert not (tmp_path / "ran").exists()


def test_another_folder_is_looked_into_at_once(host: OfxHost, shared_daemon: DaemonProcess) -> None:
    node = node_for(host, Path("nobody-here"))
    assert pressed(node, "endpoint").startswith("no daemon is running in ")
    node.set(endpoint=str(shared_daemon.folder))
    assert pressed(node, "endpoint").startswith("daemon ")
    node.set(endpoint="../v1")
    assert "would leave the runtime folder" in pressed(node, "endpoint")


def test_a_program_gets_no_descriptor_of_the_host(
    host: OfxHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ends = os.pipe()
    for end in open_ends:
        os.set_inheritable(end, True)
    script = program(
        tmp_path / "python", f"ls -l /proc/self/fd > '{tmp_path}/seen'", "echo over >&2; exit 1"
    )
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", str(script))
    try:
        assert pressed(node_for(host, tmp_path)) == "the daemon did not start: over"
        pipe = os.readlink(f"/proc/self/fd/{open_ends[0]}")
        assert pipe not in (tmp_path / "seen").read_text()
    finally:
        for end in open_ends:
            os.close(end)


# ---------------------------------------------------------------------------------------------
# Which program, and what is said of one that fails


def test_the_program_is_the_variables_else_the_notes_else_the_command_on_the_path(
    host: OfxHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = node_for(host, tmp_path / "none")
    monkeypatch.setenv("PATH", f"{tmp_path}/nothing:{tmp_path}/bin:/usr/bin:/bin")
    assert pressed(node) == (
        "no daemon can be started: run `mattebridge serve` once, or set MATTEBRIDGE_DAEMON_PYTHON"
        " to the Python of mattebridge"
    )
    says = 'echo "$0 $*" >&2; exit 3'
    arguments = f"serve --detach --auto --instance {tmp_path / 'none'}"
    on_path = program(tmp_path / "bin" / "mattebridge", says)
    assert pressed(node) == f"the daemon did not start: {on_path} {arguments}"
    noted = program(tmp_path / 'a "quoted" \\ prögram', says)
    note(tmp_path, json.dumps({"python": str(noted)}))
    assert pressed(node) == f"the daemon did not start: {noted} -m mattebridge {arguments}"
    chosen = program(tmp_path / "chosen", says)
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", str(chosen))
    assert pressed(node) == f"the daemon did not start: {chosen} -m mattebridge {arguments}"
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", "/nonexistent/python")
    assert pressed(node) == (
        "cannot start the daemon with /nonexistent/python, which is no program: check"
        " MATTEBRIDGE_DAEMON_PYTHON"
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"python": "%s"}',
        ' {"other": [1, {"python": "x"}, null], "python" : "%s" }\n',
        '{"python": 3, "python": "%s"}',
        '{"a": -1.5e3, "b": true, "c": {}, "d": [], "python": "%s"}',
    ],
)
def test_a_note_is_read_as_python_reads_it(host: OfxHost, tmp_path: Path, text: str) -> None:
    noted = program(tmp_path / "noted", "echo this one >&2; exit 1")
    assert json.loads(text % noted)["python"] == str(noted)
    note(tmp_path, text % noted)
    node = node_for(host, tmp_path / "none")
    assert pressed(node) == "the daemon did not start: this one"
    escaped = "".join(f"\\u{ord(letter):04X}" for letter in str(noted))
    note(tmp_path, text % escaped)
    assert pressed(node) == "the daemon did not start: this one"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"python": "%s"', '{"python": ["%s"]}', '"%s"', '{"python": "%s"} x',
     '{"python": "\\x%s"}', "[" * 5000, '{"a":' * 5000],
)  # fmt: skip
def test_a_note_that_is_none_names_no_program(host: OfxHost, tmp_path: Path, text: str) -> None:
    noted = program(tmp_path / "noted", "exit 1")
    note(tmp_path, text.replace("%s", str(noted)))
    assert pressed(node_for(host, tmp_path / "none")).startswith("no daemon can be started: ")


def test_a_note_of_a_program_that_is_gone_says_so(host: OfxHost, tmp_path: Path) -> None:
    path = note(tmp_path, json.dumps({"python": "/gone/python"}))
    line = pressed(node_for(host, tmp_path / "none"))
    assert line.startswith(f"no daemon can be started (/gone/python, named in {path}, is gone): ")


@pytest.mark.parametrize("open_one", ["folder", "file"])
def test_a_note_that_others_may_have_written_is_not_obeyed(
    host: OfxHost, tmp_path: Path, open_one: str
) -> None:
    noted = program(tmp_path / "noted", f"touch '{tmp_path}/ran'")
    path = note(tmp_path, json.dumps({"python": str(noted)}))
    (path if open_one == "file" else path.parent).chmod(0o777)
    assert "which others may have written" in pressed(node_for(host, tmp_path / "none"))
    assert not (tmp_path / "ran").exists()


def test_a_program_that_fails_without_a_word_is_named_by_its_status(
    host: OfxHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = program(tmp_path / "python", "exit 9")
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", str(script))
    assert pressed(node_for(host, tmp_path)) == "the daemon did not start: exit status 9"


def test_the_sentence_of_the_real_command_arrives(
    host: OfxHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is open to others is refused by the daemon's own command."""
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", sys.executable)
    (tmp_path / "file").write_text("")
    expected = subprocess.run(
        [sys.executable, "-m", "mattebridge", "serve", "--detach", "--auto", "--instance",
         str(tmp_path / "file" / "run")],
        capture_output=True, text=True, check=False,
    ).stderr.strip().splitlines()[-1]  # fmt: skip
    line = pressed(node_for(host, tmp_path / "file" / "run"))
    assert expected
    assert line == f"the daemon did not start: {expected}"


@pytest.mark.slow
def test_a_start_that_takes_long_gives_the_host_back_and_is_not_begun_twice(
    host: OfxHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    script = program(
        tmp_path / "python",
        f"echo x >> '{tmp_path}/starts'",
        f"while [ ! -e '{go}' ]; do sleep 0.1; done",
        "echo too late >&2; exit 1",
    )
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", str(script))
    node = node_for(host, tmp_path / "none")
    assert pressed(node) == STARTING
    go.touch()  # the second click waits for the first one's program
    assert pressed(node) == "the daemon did not start: too late"
    assert (tmp_path / "starts").read_text() == "x\n"


# ---------------------------------------------------------------------------------------------
# Nothing else starts one


def test_neither_a_render_nor_a_script_starts_a_daemon(
    host: OfxHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = program(tmp_path / "python", f"touch '{tmp_path}/ran'", "exit 1")
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", str(script))
    node = node_for(host, tmp_path / "none")
    assert node.render()[0] == FAILED
    assert node.message is not None
    assert "press Start daemon, or run `mattebridge serve --detach`" in node.message[1]
    node.clip_preferences()
    pressed(node, "daemonStatus")
    pressed(node, "endpoint")
    for reason in ("OfxChangePluginEdited", "OfxChangeTime"):
        assert node.changed("startDaemon", reason) == DEFAULT
    assert not (tmp_path / "ran").exists()
    assert pressed(node) == "the daemon did not start: exit status 1"
    assert (tmp_path / "ran").exists()
