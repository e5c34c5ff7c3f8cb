"""`python -m train.evaluate`: see `sealkd_jax.programs.commands.evaluate`."""

from sealkd_jax.programs.cli import start

if __name__ == "__main__":
    start("evaluate")
