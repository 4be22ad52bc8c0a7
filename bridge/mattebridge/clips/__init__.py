"""Folders of clips, as CorridorKey users have them: found here, and matted by `shot/`.

    scan(path) --> ScanResult: Clip, ... --job_of--> MatteJob --> shot.run.run_job

Nothing is moved, renamed or deleted in a clip folder, and nothing is created before the first
frame.
"""

from mattebridge.clips.contracts import Clip, ScanResult, SkippedPath
from mattebridge.clips.scan import scan

__all__ = ["Clip", "ScanResult", "SkippedPath", "scan"]
