"""Fixtures are in modules by subject; this file only lists them."""

pytest_plugins = ["tests.fix_stores", "tests.fix_counts", "tests.faults.fix_farm", "tests.pub.fix_site", "tests.services.fix_slurm"]
