"""The daemon: a torch-free front that clients talk to, and one killable worker a device.

    clients --door, ctl--> front.py ---link (memfds, jobs)---> worker.py   cuda:0, cuda:1, cpu
                             |  doorkeeper.py  leases, arenas, quotas
                             |  scheduler.py   the fair queue
                             |  pool.py        workers: started, watched, killed, replaced
                             |  plates.py      held clean plates
                             |  runtime.py     folder, lock, status.json, log

The rule that must not be broken: the front never waits for a worker, a client or the disk, and
never imports numpy or torch; a worker never sees a client.
"""
