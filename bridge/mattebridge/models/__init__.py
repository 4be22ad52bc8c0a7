"""Matting models: one file a family, found by name through `mattebridge.models.registry`."""
