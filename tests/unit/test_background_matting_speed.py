"""The benchmark of the networks holds its own bars; slow, so not part of a bare pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "bench_background_matting.py"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_fast_path_is_as_much_faster_as_the_project_promises() -> None:
    command = [sys.executable, str(BENCHMARK), "--check", "--rounds", "5"]
    command += ["--selections", "clustered", "--backbones", "mobilenetv2", "resnet50"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
