"""`python -m train.compare`: see `sealkd_jax.programs.commands.compare`."""

from sealkd_jax.programs.cli import run
from sealkd_jax.programs.commands.compare import main

if __name__ == "__main__":
    run(main)
