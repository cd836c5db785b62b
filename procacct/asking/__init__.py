"""Questions to the store about processes."""
