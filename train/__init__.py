"""The programs: `python -m train.distill`, `train.compare`, `train.evaluate`, `train.teacher`, `train.precompute`."""
