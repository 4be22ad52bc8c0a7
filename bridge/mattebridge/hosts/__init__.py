"""What the Python nodes of Nuke and Fusion share, above the client and below any host.

    request         what is asked for: settings, the files of a frame, what a model needs
    frame_range     frame ranges as a host has them
    settings_text   the settings of a model as an artist types them
    scratch         the folders for pixels on their way to the daemon: locked in use, then removed
    store           results on disk: frames named by their content, sets of them for a host's Read
    route           the way to the daemon: one of the next two
    shot            a range of frames through the client (numpy, pyzmq, msgpack)
    command         the same through the `mattebridge` command, where a host cannot load those
    exr             uncompressed EXR in numpy, its header in exr_header: what hosts write and read

Nothing here imports a host. Only `shot` and `exr` need more than the standard library. Runs on
Python 3.9; importing it starts nothing.
"""
