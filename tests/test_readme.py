"""The code that the README and the docs print, run as it is printed."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(3), ids=["linen", "nnx", "equinox"])
def test_the_readmes_training_step_lowers_the_loss(number):
    code = blocks("README.md")[number]
    names = {}
    exec(compile(code, f"README.md block {number}", "exec"), names)
    first = float(names["loss"])
    data = (names["jnp"].ones((8, 20)), names["jnp"].zeros((8, 10)), names["jnp"].arange(8))
    for _ in range(20):
        if "params" in names:
            names["params"], names["opt_state"], loss = names["step"](names["params"], names["opt_state"], *data)
        elif "opt_state" in names:
            names["student"], names["opt_state"], loss = names["step"](names["student"], names["opt_state"], *data)
        else:
            loss = names["step"](names["student"], names["optimizer"], *data)
    assert float(loss) < first


def test_every_block_of_the_readme_is_one_of_these():
    assert len(blocks("README.md")) == 3
