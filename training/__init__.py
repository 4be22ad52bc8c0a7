"""Training of the network `twoplate`: a composer of shots, the training itself, validation, export.

    layers/  -->  compose/  -->  `difference`  -->  pool  -->  train  -->  export
    subjects,     plates,        the matte to       crops,     loss,       safetensors,
    sets          truth          start from         on GPU     average     half precision

Not installed with mattebridge and never imported by it. Run from the top of the repository, with
`bridge` on PYTHONPATH; README.md beside this file has the commands.
"""
