# Nuke runs this at every start, also on the farm and under Pythons that we do not support:
# it must parse on 3.7, and a failure prints one line and never breaks the start.
try:
    import mattebridge_nuke

    mattebridge_nuke.set_up()
except Exception as error:
    print(f"mattebridge: not loaded: {error}")
