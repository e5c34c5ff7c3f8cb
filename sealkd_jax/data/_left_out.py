"""Files that are not read, and what is said of them."""

from pathlib import Path

_OF_SYSTEMS = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"}
HIDDEN, OTHER_KINDS, DEAD = "hidden files or folders", "files of other kinds", "dead links"


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is a system's or an editor's own, such as `.DS_Store` or `__MACOSX`."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


class Tally:
    """Counts of files by what is said of them, with one example each."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[int, object]] = {}

    def add(self, reason: str, file: str | Path) -> None:
        """Counts one file."""
        count, example = self._of.get(reason, (0, file))
        self._of[reason] = count + 1, example

    def __str__(self) -> str:
        return "; ".join(f"{reason}: {count}, such as {file}" for reason, (count, file) in self._of.items())
