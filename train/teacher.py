"""`python -m train.teacher`: see `sealkd_jax.programs.commands.teacher`."""

from sealkd_jax.programs.cli import start

if __name__ == "__main__":
    start("teacher")
