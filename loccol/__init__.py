"""Collectors' parsers of local batch systems, and the 2012 scripts acct and create."""
