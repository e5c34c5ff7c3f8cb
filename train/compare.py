"""`python -m train.compare`: see `sealkd_jax.programs.commands.compare`."""

from sealkd_jax.programs.cli import start

if __name__ == "__main__":
    start("compare")
