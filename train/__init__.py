"""The programs: `python -m train.distill`, `train.teacher`, `train.precompute`."""
