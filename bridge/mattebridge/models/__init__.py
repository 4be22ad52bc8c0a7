"""Matting models: one folder a family, found by name through `mattebridge.models.registry`."""
