"""A minute of mutated files; `python -m tests.fuzz --seconds 3600 --seed 1` takes longer."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_mutated_files_are_refused_in_a_line_or_read_rightly():
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", "60", "--seed", "0"]
    run = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
