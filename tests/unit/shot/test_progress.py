"""The progress of a job: lines that people and queues can rely on, whatever the files' names."""

from __future__ import annotations

import io
import json

import pytest

from mattebridge.shot.progress import (
    BarProgress,
    FrameRecord,
    OpenJdProgress,
    PlainProgress,
    QueueProgress,
    duration,
    make_progress,
)
from mattebridge.wire.labels import MATTE_FROM_LUMA, SENTENCES

HOSTILE = "cannot read a\nopenjd_env: X=1\r\x1b[31mred\u2028.exr"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_plain_lines_are_those_of_the_manual():
    stream = io.StringIO()
    progress = PlainProgress(stream)
    progress.frame(FrameRecord(1003, "done", ms=412.3), 3, 10)
    progress.frame(FrameRecord(1004, "found"), 4, 10)
    progress.frame(FrameRecord(1005, "failed", message="no such file"), 5, 10)
    assert lines(stream) == [
        "frame 1003 done 412 ms (3/10)",
        "frame 1004 found (4/10)",
        "frame 1005 failed: no such file (5/10)",
    ]


def test_what_is_less_than_asked_stands_in_the_line():
    stream = io.StringIO()
    record = FrameRecord(7, "done", ms=5, degraded=(MATTE_FROM_LUMA,), held=("clean_plate",))
    PlainProgress(stream).frame(record, 1, 1)
    assert lines(stream) == [
        f"frame 7 done 5 ms [{SENTENCES[MATTE_FROM_LUMA]}] [held: clean_plate] (1/1)"
    ]


@pytest.mark.parametrize("mode", ["plain", "bar", "openjd", "deadline", "json"])
def test_foreign_text_never_begins_a_line_or_colours_one(mode):
    stream = io.StringIO()
    progress = make_progress(mode, stream)
    progress.start(2, HOSTILE)
    progress.note(HOSTILE)
    progress.frame(FrameRecord(1, "failed", message=HOSTILE), 1, 2)
    progress.finish(3, HOSTILE)
    progress.refuse(2, HOSTILE)
    for line in stream.getvalue().splitlines():
        assert not line.startswith("openjd_env")
        assert "\x1b[31m" not in line


def test_percentages_come_once_a_second_and_at_the_end():
    stream, clock = io.StringIO(), Clock()
    progress = OpenJdProgress(stream, clock)
    for finished in range(1, 101):
        clock.now += 0.1
        progress.frame(FrameRecord(finished, "done", ms=1), finished, 100)
    said = [line.partition(": ")[2] for line in lines(stream) if line.startswith("openjd_progress")]
    values = [float(text) for text in said]
    assert 9 <= len(values) <= 12
    assert values == sorted(values)
    assert values[-1] == 100.0
    assert all(0 <= value <= 100 for value in values)


def test_openjd_fails_once_at_the_end():
    stream = io.StringIO()
    progress = OpenJdProgress(stream)
    progress.frame(FrameRecord(1, "failed", message="gone"), 1, 1)
    progress.finish(3, "1 of 1 failed", "gone")
    assert [line for line in lines(stream) if line.startswith("openjd_fail")] == [
        "openjd_fail: 1 of 1 failed; gone"
    ]
    assert "frame 1 failed: gone" in lines(stream)


def test_many_failures_do_not_flood_a_queue():
    stream, clock = io.StringIO(), Clock()
    progress = OpenJdProgress(stream, clock)
    for number in range(1, 101):
        clock.now += 0.125
        progress.frame(FrameRecord(number, "failed", message="gone"), number, 200)
    progress.finish(3, "100 failed", "gone")
    failed = [line for line in lines(stream) if line.startswith("frame ")]
    assert len(failed) == 14
    assert failed[0] == "frame 1 failed: gone"
    assert failed[1] == "frame 2 failed: gone [and 7 more failed since]"
    said = [line for line in lines(stream) if line.startswith("openjd_progress")]
    assert said[-1] == "openjd_progress: 50.0"  # also the last word before the end
    assert lines(stream)[-1] == "openjd_fail: 100 failed; gone"


def test_a_job_that_never_began_fails_with_one_line():
    for mode, first in (("openjd", "openjd_fail: no frame 7"), ("plain", ""), ("deadline", "")):
        stream = io.StringIO()
        make_progress(mode, stream).refuse(2, "no frame 7")
        assert stream.getvalue().rstrip() == first
    stream = io.StringIO()
    make_progress("json", stream).refuse(2, "no frame 7")
    event = json.loads(stream.getvalue())
    assert (event["event"], event["status"], event["cause"]) == ("finish", 2, "no frame 7")


def test_deadline_lines():
    stream = io.StringIO()
    progress = QueueProgress(stream)
    progress.frame(FrameRecord(1, "done"), 1, 3)
    progress.frame(FrameRecord(3, "done"), 3, 3)
    assert lines(stream) == ["Progress: 33%", "Progress: 100%"]


def test_json_lines_are_objects():
    stream = io.StringIO()
    progress = make_progress("json", stream)
    progress.start(1, "what")
    progress.frame(FrameRecord(1, "done", outputs={"alpha": "a.exr"}, bytes=5, ms=1.23), 1, 1)
    progress.finish(0, "done")
    events = [json.loads(line) for line in lines(stream)]
    assert [event["event"] for event in events] == ["start", "frame", "finish"]
    assert events[1]["frame"] == 1
    assert events[1]["ms"] == 1.2
    assert "message" not in events[1]


def test_a_bar_shows_speed_and_time_left_and_fits_the_terminal():
    stream, clock = Terminal(), Clock()
    progress = BarProgress(stream, columns=80, clock=clock)
    progress.start(10, "frames 1-10")
    for finished in range(1, 6):
        clock.now += 0.5
        progress.frame(FrameRecord(finished, "done", ms=500), finished, 10)
    last = stream.getvalue().split("\r")[-1].replace("\x1b[K", "")
    assert last == "[############------------] 5/10 frame 5  2.00 frames/s  0:02 left"
    progress.frame(FrameRecord(6, "failed", message="gone"), 6, 10)
    assert "frame 6 failed: gone\n" in stream.getvalue()
    assert all(len(part) <= 90 for part in stream.getvalue().split("\r"))


def test_a_bar_is_for_terminals_only(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(make_progress("auto", Terminal()), BarProgress)
    assert type(make_progress("auto", io.StringIO())) is PlainProgress
    monkeypatch.setenv("TERM", "dumb")
    assert type(make_progress("auto", Terminal())) is PlainProgress


def test_a_listener_that_has_gone_does_not_stop_the_job():
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    PlainProgress(Closed()).frame(FrameRecord(1, "done"), 1, 1)


def test_durations_read_like_a_clock():
    assert [duration(s) for s in (0.4, 65, 3600 + 62)] == ["0:00", "1:05", "1:01:02"]
