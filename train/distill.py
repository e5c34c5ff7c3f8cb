"""`python -m train.distill`: see `sealkd_jax.programs.commands.distill`."""

from sealkd_jax.programs.cli import run
from sealkd_jax.programs.commands.distill import main

if __name__ == "__main__":
    run(main)
