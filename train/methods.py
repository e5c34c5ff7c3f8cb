"""`python -m train.methods`: see `sealkd_jax.programs.commands.methods`."""

from sealkd_jax.programs.cli import start

if __name__ == "__main__":
    start("methods")
