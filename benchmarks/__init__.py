"""How fast the library is, beside what its users would pick instead: `python -m benchmarks`."""
