"""Starts the programs from a checkout: `python -m train.distill`; `python -m train` lists them. Benchmarks beside."""
