"""`python -m train.precompute`: see `sealkd_jax.programs.commands.precompute`."""

from sealkd_jax.programs.cli import start

if __name__ == "__main__":
    start("precompute")
