"""The benchmarks, a module each: what is done to a server, and what is read from it."""
