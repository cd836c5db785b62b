"""The preload sensor, in C, and what in Python goes with it."""
