"""`python -m train.prepare`: see `sealkd_jax.programs.commands.prepare`."""

from sealkd_jax.programs.cli import start

if __name__ == "__main__":
    start("prepare")
