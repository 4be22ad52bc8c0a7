"""Mattes judged by known alpha: metrics, judge, sheet."""
