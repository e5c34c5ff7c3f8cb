"""`python -m train.export`: see `sealkd_jax.programs.commands.export`."""

from sealkd_jax.programs.cli import run
from sealkd_jax.programs.commands.export import main

if __name__ == "__main__":
    run(main)
