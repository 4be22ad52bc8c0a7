"""The control channel: round trip of a `ping`.

Method: `MatteClient.ping` in a loop against an idle daemon; in comparison a bare DEALER-ROUTER echo
of two frames between two processes, which is the time of ZeroMQ itself. Rounds of both in turn; the
median of the best round is given.
Goal: p50 at most 0.15 ms on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from typing import Any, Callable

import zmq

from benchmarks.daemon import running


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pings", type=int, default=1000)
    options = parser.parse_args(arguments)
    home = tempfile.mkdtemp(prefix="mb-bench-")
    address = f"ipc://{home}/echo"
    echo = multiprocessing.get_context("spawn").Process(target=_echo, args=(address,), daemon=True)
    echo.start()
    context: zmq.Context[Any] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(address)

    def bare() -> None:
        dealer.send_multipart([b"MTB1", bytes(64)])
        dealer.recv_multipart()

    try:
        bare()
        with running() as (client, _process):
            rounds = [
                (_p50_us(client.ping, options.pings), _p50_us(bare, options.pings))
                for _ in range(options.rounds)
            ]
    finally:
        echo.kill()
        echo.join()
        dealer.close(0)
        context.term()
        shutil.rmtree(home, ignore_errors=True)
    pings, bares = zip(*rounds)
    print("| round trip | p50 us, best round | p50 us, median round |")
    print("|---|---|---|")
    for name, values in (("ping", pings), ("bare ZeroMQ echo", bares)):
        print(f"| {name} | **{min(values):.0f}** | {statistics.median(values):.0f} |", flush=True)


def _p50_us(call: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


def _echo(address: str) -> None:
    context: zmq.Context[Any] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.bind(address)
    while True:
        router.send_multipart(router.recv_multipart())


if __name__ == "__main__":
    main(sys.argv[1:])
