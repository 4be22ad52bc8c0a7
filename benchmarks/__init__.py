"""Measurements of the speed and memory figures that README states, each run by one command."""
