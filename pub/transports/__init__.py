"""Transports, one a module, registered under `batchacct.transports`."""
