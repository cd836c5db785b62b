"""Our records held against those of an APEL client that runs beside: every difference is told, and nothing is sent."""
