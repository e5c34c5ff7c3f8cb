"""`python -m train.precompute`: see `sealkd_jax.programs.commands.precompute`."""

from sealkd_jax.programs.cli import run
from sealkd_jax.programs.commands.precompute import main

if __name__ == "__main__":
    run(main)
