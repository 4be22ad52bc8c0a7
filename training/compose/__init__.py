"""Shots composed from layers, in batches, on any torch device. Each layer is used several times.

    layers --geometry--> subject over set --light--> shadows, spill --blend--> plate
                                     `---------------------------------------> clean plate
    both --camera--> drift, softness, grain, tone, codec, 8 bits --front end--> matched pair

All pictures: (N, C, H, W) float32, display-encoded 0..1, RGB. Random values per shot come from
numpy's generator and are the same on every device; noise per pixel comes from the device's own.
"""
