"""A program a file. No program imports another."""
