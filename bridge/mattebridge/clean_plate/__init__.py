"""The clean plate: laid under the plate (`match`), or made from a shot (`estimate`)."""
