"""The benchmarks behind the README's numbers: a server on one core, the load on the other."""
