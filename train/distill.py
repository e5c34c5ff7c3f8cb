"""`python -m train.distill`: see `sealkd_jax.programs.commands.distill`."""

from sealkd_jax.programs.cli import start

if __name__ == "__main__":
    start("distill")
