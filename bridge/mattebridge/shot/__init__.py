"""A whole shot: job, plan, run, outputs, ledger, progress."""
