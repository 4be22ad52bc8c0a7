"""The BackgroundMattingV2 family: the published networks, a fast way to compute them, checkpoints.

card         what is known of a checkpoint without torch
model        the engine's model
recognise    which network a file is for
precision    half precision, and the check that given weights allow it
networks     MattingBase, MattingRefine as published; backbones, decoder, refiner: their parts
matting      what computing one takes and gives, in either of two ways:
fast         on a CPU, the same results in a fraction of the time; coarse, tiles, resize: its parts
gpu          on a GPU, the same results in few large steps; coarse, cells: its parts
"""
