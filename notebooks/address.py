"""Writes the address of the repository, as pyproject.toml has it, into the notebooks: `python notebooks/address.py`."""

import re
import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent


def addressed(text: str) -> str:
    """The text of a notebook with the repository's owner and name in all addresses of GitHub and Colab."""
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]
    name = project["urls"]["Repository"].removeprefix("https://github.com/")
    return re.sub(r"(https://github\.com/|/github/)[\w-]+/[\w.-]+", rf"\g<1>{name}", text)


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.ipynb")):
        path.write_text(addressed(path.read_text()))
