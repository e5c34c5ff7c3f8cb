"""`python -m train.presets`: see `sealkd_jax.programs.commands.presets`."""

from sealkd_jax.programs.cli import start

if __name__ == "__main__":
    start("presets")
