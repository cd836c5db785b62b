"""The spool of a node to a central host, over a broker."""
