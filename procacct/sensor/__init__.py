"""The preload sensor, in C, and what in Python goes with it."""

from procacct.sensor.building import NAME, build, library, preload_path

__all__ = ["NAME", "build", "library", "preload_path"]
