"""The preload sensor: what it records, and that it hurts nothing."""
