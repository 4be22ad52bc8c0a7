# Nuke runs this at the start of the graphical program. It must parse on 3.7; see init.py.
try:
    import mattebridge_nuke

    mattebridge_nuke.set_up_menu()
except Exception as error:
    print(f"mattebridge: no menu: {error}")
