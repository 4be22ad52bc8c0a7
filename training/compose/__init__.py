"""Shots from layers, in batches, on any torch device: cheap, so each layer is used several times.

    layers --geometry--> subject over set --light--> shadows, spill --blend--> plate
                                     `---------------------------------------> clean plate
    both --camera--> drift, softness, grain, tone, codec, 8 bits --front end--> matched pair

All pictures: (N, C, H, W) float32, display-encoded 0..1, RGB. Whatever is decided per shot comes
from numpy's generator, the same on every device; noise comes from the device's own.
"""
