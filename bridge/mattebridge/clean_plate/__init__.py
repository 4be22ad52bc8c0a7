"""The clean plate: fitted to the plate, or made from a shot.

match       fits it to a plate; pair, geometry, exposure: its steps; on_device: on a GPU
estimate    makes one from the frames of a shot; register, settle: its steps
"""
