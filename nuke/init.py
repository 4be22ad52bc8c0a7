# Nuke runs this at every start, also on farms and with unsupported versions of Python:
# it must parse on 3.7, and on failure it prints one line and Nuke starts normally.
try:
    import mattebridge_nuke

    mattebridge_nuke.set_up()
except Exception as error:
    print(f"mattebridge: not loaded: {error}")
