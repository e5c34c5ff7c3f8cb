"""`kill -9` at random moments of whole runs; see helpers/kill_runs.py, which does it more often."""

import pytest

from tests.helpers.kill_runs import kill_runs


@pytest.mark.slow
def test_runs_that_are_killed_end_as_one_that_is_not(tmp_path):
    stages, _ = kill_runs(tmp_path, 5, seed=0)
    assert len(stages) == 5
