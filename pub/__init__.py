"""Publishing: join, VO mapping, benchmarks, formats, transports, and the 2012 script join."""
