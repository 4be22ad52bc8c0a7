"""Control groups: what a container or a farm's job may have of the machine's memory and time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mattebridge.wire.control_groups import ControlGroups
from mattebridge.wire.linux import LinuxLayer

GIB = 1 << 30


def groups(place: Path, own: str, files: Mapping[str, str]) -> ControlGroups:
    """Groups in a folder: `own` as /proc/self/cgroup has it, and the files by path."""
    (place / "own").write_text(own)
    for name, text in files.items():
        path = place / "mounted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return ControlGroups(place / "mounted", place / "own")


def test_the_smallest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    found = groups(
        tmp_path,
        "0::/farm/job\n",
        {
            "farm/memory.max": str(4 * GIB),
            "farm/job/memory.max": "max",
            "farm/job/deeper/memory.max": "1",
        },
    )
    assert found.memory_limit() == 4 * GIB


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    """The path is the host's; there is no such folder here."""
    files = {"memory/memory.limit_in_bytes": str(2 * GIB), "cpu/cpu.cfs_quota_us": "150000"}
    files["cpu/cpu.cfs_period_us"] = "100000"
    own = "4:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n0::/\n"
    found = groups(tmp_path, own, files)
    assert found.memory_limit() == 2 * GIB
    assert found.cores() == 1.5


def test_what_is_left_counts_cached_files_as_free(tmp_path: Path) -> None:
    found = groups(
        tmp_path,
        "0::/job\n",
        {
            "job/memory.max": str(4 * GIB),
            "job/memory.current": str(3 * GIB),
            "job/memory.stat": f"anon 7\ninactive_file {GIB}\nactive_file 9",
        },
    )
    assert found.memory_left() == 2 * GIB


def test_what_is_left_of_the_older_interface(tmp_path: Path) -> None:
    found = groups(
        tmp_path,
        "4:memory:/job\n",
        {
            "memory/job/memory.limit_in_bytes": str(4 * GIB),
            "memory/job/memory.usage_in_bytes": str(5 * GIB),
            "memory/job/memory.stat": "total_inactive_file 0",
            "memory/memory.limit_in_bytes": "9223372036854771712",
            "memory/memory.usage_in_bytes": str(6 * GIB),
        },
    )
    assert found.memory_left() == 0


@pytest.mark.parametrize(("text", "cores"), [("max 100000", None), ("50000 100000", 0.5)])
def test_processor_time_of_the_newer_interface(
    text: str, cores: float | None, tmp_path: Path
) -> None:
    assert groups(tmp_path, "0::/job\n", {"job/cpu.max": text}).cores() == cores


@pytest.mark.parametrize("own", ["", "nonsense\n", "0::/../../etc\n", "4:memory:\n"])
def test_no_groups_or_odd_ones_are_no_limit(own: str, tmp_path: Path) -> None:
    found = groups(tmp_path, own, {"memory.stat": "x", "memory.max": "max"})
    assert (found.memory_limit(), found.memory_left(), found.cores()) == (None, None, None)
    gone = ControlGroups(tmp_path / "nowhere", tmp_path / "no-file")
    assert (gone.memory_limit(), gone.memory_left(), gone.cores()) == (None, None, None)


def test_the_layer_gives_the_smaller_of_the_machine_and_its_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = LinuxLayer()
    for limit, name in ((1 << 20, "memory_limit"), (1 << 19, "memory_left"), (0.4, "cores")):
        monkeypatch.setattr(ControlGroups, name, lambda _self, limit=limit: limit)
    assert layer.total_memory_bytes() == 1 << 20
    assert layer.available_memory_bytes() == 1 << 19
    assert layer.cores() == 1
    for limit, name in ((1 << 60, "memory_limit"), (1 << 60, "memory_left"), (4096.0, "cores")):
        monkeypatch.setattr(ControlGroups, name, lambda _self, limit=limit: limit)
    assert 0 < layer.available_memory_bytes() <= layer.total_memory_bytes() < 1 << 60
    assert 1 <= layer.cores() < 4096
