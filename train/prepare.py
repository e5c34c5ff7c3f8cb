"""`python -m train.prepare`: see `sealkd_jax.programs.commands.prepare`."""

from sealkd_jax.programs.cli import run
from sealkd_jax.programs.commands.prepare import main

if __name__ == "__main__":
    run(main)
