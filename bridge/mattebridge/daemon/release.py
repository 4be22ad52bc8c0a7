"""`release`: the memory of the devices is given back, and the daemon stays.

    release --> every worker: idle -> its process ends
                              busy -> its frame ends, then its process
            <-- `freed`, when the last of them has been reaped

A context of CUDA keeps some hundred megabytes for as long as its process lives, and no allocator
returns everything. So the processes end, which is what the daemon does with idle workers, too. No
frame is lost: one that is computed is finished first, and one that waits starts a new process,
which loads the model again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mattebridge.daemon.leases import Lease, Request
from mattebridge.daemon.replies import Replies
from mattebridge.daemon.workers import WorkerProcess


class Releases:
    """The `release` requests whose workers have not all ended yet."""

    def __init__(self, replies: Replies) -> None:
        self._replies = replies
        self._open: list[tuple[Request, list[tuple[WorkerProcess, int]]]] = []

    def add(self, request: Request, workers: Sequence[WorkerProcess]) -> None:
        """Let these workers end, and reply once they have."""
        running = [(worker, worker.pid) for worker in workers if worker.pid]
        for worker, _pid in running:
            worker.release()
        self._open.append((request, running))
        self.tick()

    def drop(self, lease: Lease) -> None:
        """A lease has ended: its releases get no reply."""
        for request, _running in [entry for entry in self._open if entry[0].lease is lease]:
            request.answered = True

    def tick(self) -> None:
        """Reply to the requests whose workers have ended."""
        over = [entry for entry in self._open if all(w.pid != pid for w, pid in entry[1])]
        for entry in over:
            self._open.remove(entry)
            request, ended = entry
            self._replies.finish(request, "freed", {"workers": [_held(w) for w, _pid in ended]})


def _held(worker: WorkerProcess) -> dict[str, Any]:
    """What a worker's last process held."""
    return {"device": worker.name, **worker.held}
