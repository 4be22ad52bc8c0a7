"""Mattes judged by known alpha: truth, metrics, judge, sheet."""
