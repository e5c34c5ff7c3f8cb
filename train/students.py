"""`python -m train.students`: see `sealkd_jax.programs.commands.students`."""

from sealkd_jax.programs.cli import start

if __name__ == "__main__":
    start("students")
