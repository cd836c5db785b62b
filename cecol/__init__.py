"""Collectors' parsers of computing elements, and the 2012 script whisk."""
