"""Records from the databases of other programs: of the 2012 batchacct, and of an APEL client."""
