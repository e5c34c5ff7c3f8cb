"""Benchmarks of the hardware at hand, a file a subject; `timing` and `table` hold what they share."""
