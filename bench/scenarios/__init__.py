"""The benchmarks, one per module: put a load on a server and measure it."""
