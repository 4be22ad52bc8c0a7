"""The contract between a client and the daemon: parameters, messages, arenas, door and sockets."""
