"""`python -m train.predict`: see `sealkd_jax.programs.commands.predict`."""

from sealkd_jax.programs.cli import start

if __name__ == "__main__":
    start("predict")
