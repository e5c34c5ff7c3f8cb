"""`python -m train`: the overview of the programs."""

from sealkd_jax.programs.cli import main

if __name__ == "__main__":
    main()
