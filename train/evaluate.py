"""`python -m train.evaluate`: see `sealkd_jax.programs.commands.evaluate`."""

from sealkd_jax.programs.cli import run
from sealkd_jax.programs.commands.evaluate import main

if __name__ == "__main__":
    run(main)
