"""Accounting for processes: which programs and libraries ran inside the jobs."""
