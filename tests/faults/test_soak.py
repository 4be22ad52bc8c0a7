"""F37: a short soak with random kills; `python -m benchmarks.soak` runs a long one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from benchmarks.soak import FRAMES, Sample, slope

from fakes.places import ROOT

# SOAK_SECONDS=36000 for the hundred thousand frames that a release deserves; otherwise two minutes,
# or less where it has sooner matted so many frames, lost two processes and read one of each kind.
SECONDS = float(os.environ.get("SOAK_SECONDS", "120"))
ENOUGH = [] if "SOAK_SECONDS" in os.environ else ["--enough", "200", "2"]


def test_the_slope_is_that_within_the_lives_and_not_between_them() -> None:
    lives = [
        Sample(life, 1000 * life + frame, 100.0 * life + 0.002 * frame)
        for life in range(3)
        for frame in range(0, 900, 50)
    ]
    assert slope(lives) == pytest.approx(0.002 * FRAMES)
    assert slope([]) == slope(lives[:1]) == 0.0


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_f37_a_soak_with_random_kills_gives_no_wrong_frame_and_nothing_grows() -> None:
    command = [sys.executable, "-m", "benchmarks.soak", "--json", "--models", "difference"]
    numbers = ["--seconds", str(SECONDS), "--clients", "2", "--kill-every", "5", "--seed", "3"]
    done = subprocess.run(
        [*command, *numbers, *ENOUGH],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=SECONDS + 200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == 0
    # A worker takes a quarter of a minute to start where the processors are busy.
    assert found["frames"] > 10
    assert sum(found["kills"].values()) >= 2
    # A leak of a descriptor or a thread a frame would be the number of frames, two hundred.
    # What a process has at most: a connection and two descriptors a client, and its own few.
    for metrics in found["processes"].values():
        assert metrics["descriptors"]["most"] < 100
        assert metrics["threads"]["most"] < 100
    # The allocators of a short life settle within this; a leaked frame is 2 MB.
    assert found["processes"]["front"]["MB"]["most"] < 200
