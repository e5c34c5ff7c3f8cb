"""`python -m train.export`: see `sealkd_jax.programs.commands.export`."""

from sealkd_jax.programs.cli import start

if __name__ == "__main__":
    start("export")
