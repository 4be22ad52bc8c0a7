"""Load a plugin in the test host and say what comes of it: run by a Python of any processor.

    python host.py PLUGIN FOLDER_OF_THE_DAEMON PICTURES.npz

Prints the processor, then a line for each depth and output with a digest of every pixel, then what
the panel says of the daemon, and of one that cannot be started.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fakes.ofx_host import GENERAL, HostImage, OfxHost

OUTPUTS = range(3)


def main(plugin: str, folder: str, pictures: str) -> None:
    print(platform.machine())
    with OfxHost(Path(plugin)) as host:
        node = host.create(GENERAL, endpoint=folder, inputColor=0, model="difference")
        for name, (plate, clean_plate) in np.load(pictures).items():
            node.connect(Source=HostImage(plate), Background=HostImage(clean_plate))
            for mode in OUTPUTS:
                status, made = node.set(outputMode=mode).render()
                digest = hashlib.sha256(np.ascontiguousarray(made.pixels()).tobytes()).hexdigest()
                print(name, mode, status, node.message, made.pixels().any(), digest)
        for button, where in (("daemonStatus", folder), ("startDaemon", f"{folder}-none")):
            node.set(endpoint=where).changed(button)
            print(node.effect.params["daemonFound"].value)
    print(host.complaints, host.images_out)


if __name__ == "__main__":
    main(*sys.argv[1:])
