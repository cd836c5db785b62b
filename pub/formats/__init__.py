"""Message formats, one a module, registered under `batchacct.formats`."""
