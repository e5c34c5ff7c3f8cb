"""Measures what the hardware at hand does, a file a subject; `timing` and `table` are what they share."""
