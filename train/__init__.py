"""The programs: `python -m train.distill`, `train.compare`, `train.evaluate`, `train.teacher`, `train.precompute`,
`train.prepare`, `train.export`, `train.benchmark`."""
