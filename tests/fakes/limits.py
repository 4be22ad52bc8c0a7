"""How long tests wait at most. Imports nothing, so that fakes of bare hosts can have it."""

# The most that a test waits for anything: only a hang takes so long, however busy the machine.
SOON_S = 60.0
