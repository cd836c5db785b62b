"""A small simulated farm, for `batchacct demo`, the tests and the benchmarks."""
