"""`python -m train.teacher`: see `sealkd_jax.programs.commands.teacher`."""

from sealkd_jax.programs.cli import run
from sealkd_jax.programs.commands.teacher import main

if __name__ == "__main__":
    run(main)
