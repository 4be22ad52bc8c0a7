"""The daemon: a torch-free front that clients talk to, and one killable worker a device.

    clients --door, ctl--> front.py ---link (memfds, jobs)---> worker.py   cuda:0, cuda:1, cpu
                             |  doorkeeper.py    leases, arenas, quotas
                             |  mailbox.py       the control socket
                             |  operations.py    one method for each request of a client
                             |  dispatch.py      queue.py -> workers.py, and what they report
                             |  replies.py       exactly one final reply for each request
                             |  status.py        what `status` and `ping` reply
                             |  held_plates.py   clean plates held between sessions
                             |  runtime.py       folder, lock, status.json, log

The rule that must not be broken: the front never waits for a worker, a client or the disk, and
never imports numpy or torch; a worker never sees a client.
"""
