"""Training of the network `twoplate`: a composer of shots, the training itself, validation, export.

    layers/ (numpy, cv2)  -->  pool  -->  composer (torch)  -->  train  -->  export
    subjects and sets          cached     plates, on the device    loss, EMA    safetensors, half

Not installed with mattebridge and never imported by it. Run from the top of the repository, with
`bridge` on PYTHONPATH; README.md beside this file has the commands.
"""
