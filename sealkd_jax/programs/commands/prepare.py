"""Download and prepare a data set.

TensorFlow Datasets prepares images, and tonic downloads event recordings; training needs neither downloader. An
official archive that you have is read without them (`--from`).
"""

from sealkd_jax.data import DATASETS, prepare
from sealkd_jax.programs.command_line import read_options
from sealkd_jax.programs.data import shown_warnings
from sealkd_jax.programs.options import PrepareOptions


def main(argv: list[str] | None = None) -> None:
    """Print where the data set is."""
    names = ", ".join(name for name, source in DATASETS.items() if source.prepare is not None)
    options = read_options(PrepareOptions, f"Download and prepare a data set: one of {names}.", argv, "prepare")
    with shown_warnings():
        made = prepare(options.name, options.data_dir, options.manual_dir, options.archive)
    print(f"{options.name}: {made}")
