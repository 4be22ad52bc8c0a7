"""The clean plate: aligned with the plate (`match`), or made from a shot (`estimate`)."""
