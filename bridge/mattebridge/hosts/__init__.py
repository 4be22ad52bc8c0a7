"""What the Python nodes of Nuke and Fusion share, above the client and below any host.

    exr       uncompressed EXR in numpy: pixels out of a host's Write or Saver, and back
    scratch   the folders in which they pass through, locked while in use, swept when not
    shot      a range of frames through the daemon into multi-layer EXRs named by content

Nothing here imports a host. Like the client it needs numpy, pyzmq and msgpack, and runs on
Python 3.9; importing it starts nothing.
"""
