"""Colour spaces by name: the OpenColorIO config, and each of its spaces as a matrix and a curve.

OpenColorIO is the one inside the OpenImageIO wheel. It is imported when a space is named that is
neither `linear` nor `srgb`; those two are our own (`mattebridge.color`) and need no config.
"""
