"""The script for a machine with a GPU, tried without one: each part runs to its end."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks import bench_gpu

from fakes.pretended_cuda import CARD_BYTES, CUDA, pretended_cuda

SIZES = {"HD": (128, 96), "UHD": (160, 128)}
# For the parts that do the same with each size.
ONE_SIZE = {"UHD": (128, 96)}
LIMIT_S = 3600.0


def bench_of(
    device: str, monkeypatch: pytest.MonkeyPatch, sizes: dict[str, tuple[int, int]]
) -> bench_gpu.Bench:
    """All of the script, but on small pictures, with one backbone, and once."""
    card = SimpleNamespace(name="pretended", total_memory=CARD_BYTES, multi_processor_count=1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 0)
    bench = bench_gpu.Bench(device, sizes, LIMIT_S)
    bench.rounds, bench.span_s = 1, 0.0
    bench.backbones, bench.squares = ("mobilenetv2",), (64,)
    return bench


def errors_of(found: dict[str, Any]) -> list[str]:
    """The errors of a part and of its cases, and the cases that were left out."""
    cases = [found, *(case for case in found.values() if isinstance(case, dict))]
    return [str(case) for case in cases if "error" in case or "left_out" in case]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "sizes", "cases"),
    [
        ("machine", SIZES, {"gpu", "gpu_bytes", "torch"}),
        ("copies", SIZES, {"pageable", "registered", "unregister_code"}),
        ("tensors", ONE_SIZE, {"mobilenetv2 UHD float16 graph", "mobilenetv2 UHD float32 plain",
                               "twoplate UHD float32 eager"}),
        ("precision", SIZES, {"mobilenetv2 tf32", "mobilenetv2 bfloat16"}),
        ("hint_keyer", SIZES, {"64 bfloat16 full_frame"}),
        ("stages", SIZES, {"mobilenetv2 HD", "twoplate UHD", "difference HD"}),
    ],
)  # fmt: skip
def test_each_part_runs_on_a_pretended_device(
    part: str,
    sizes: dict[str, tuple[int, int]],
    cases: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pretended_cuda():
        found = getattr(bench_of(str(CUDA), monkeypatch, sizes), part)()
    assert not errors_of(found)
    assert cases <= set(found)
    json.dumps(found)


@pytest.mark.slow
def test_frames_go_through_a_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    found = bench_of("cpu", monkeypatch, ONE_SIZE).bridge()
    assert not errors_of(found)
    for model in ("mobilenetv2", "twoplate", bench_gpu.HINT_KEYER):
        assert found[f"{model} UHD float16 3 in flight"]["frames"] >= 3


@pytest.mark.slow
def test_several_workers_share_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of("cpu", monkeypatch, ONE_SIZE)
    bench.workers_on_it = (2,)
    found = bench.workers()
    assert not errors_of(found)
    assert found["2 x twoplate UHD float16"]["frames"] >= 3


@pytest.mark.slow
def test_the_tests_for_a_gpu_are_found_and_say_how_many_there_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = bench_of("cpu", monkeypatch, ONE_SIZE).tests()
    assert found["status"] == 0
    # Each of them is run, or on a machine without a GPU skipped; no other one is.
    run = sum(int(count) for count in re.findall(r"(\d+) (?:passed|skipped)", found["summary"]))
    assert run >= 3, found
    assert "deselected" in found["summary"]


def test_without_time_cases_and_tests_are_left_out_and_the_tests_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = bench_of("cpu", monkeypatch, ONE_SIZE)
    found: dict[str, Any] = {}
    for left_s, kept in ((bench_gpu.TESTS_S + 60, True), (bench_gpu.TESTS_S - 1, False)):
        bench.until = time.monotonic() + left_s
        bench._case(found, "case", lambda: {"frames_s": 1})
        assert ("left_out" not in found["case"]) is kept
    bench.until = time.monotonic()
    assert "left_out" in bench.tests()


def test_what_was_found_is_written_and_a_part_that_fails_costs_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_bench: bench_gpu.Bench) -> dict[str, Any]:
        raise RuntimeError("broken")

    monkeypatch.setattr(bench_gpu.Bench, "copies", broken)
    file = tmp_path / "gpu.json"
    bench_gpu.main(
        ["--device", "cpu", "--small", "--only", "copies", "machine", "--json", str(file)]
    )
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["copies"]["error"] == "RuntimeError: broken"
    assert found["machine"]["device"] == "cpu"
