"""What the Python nodes of Nuke and Fusion share, above the client and below any host.

    request   what is asked: settings, the files of a frame, what a model needs
    store     what becomes of it on disk: frames by content, sets of them for a host's Read
    scratch   the folders in which pixels pass through, locked while in use, swept when not
    route     the way to the daemon: one of the next two
    shot      a range of frames by the client (numpy, pyzmq, msgpack)
    command   the same by the `mattebridge` command, where a host cannot load those
    exr       uncompressed EXR in numpy, its header in exr_header: pixels out of a host and back

Nothing here imports a host. Only `shot` and `exr` need more than the standard library. Runs on
Python 3.9; importing it starts nothing.
"""
