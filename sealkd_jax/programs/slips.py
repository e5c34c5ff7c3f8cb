"""The error for an option that does not exist, with the option that was probably meant."""

from collections.abc import Collection
from typing import Any

from sealkd_jax.data.augmentation import STEPS
from sealkd_jax.errors import InputError, did_you_mean
from sealkd_jax.losses import METHODS, hyperparameters

# The option, and what other programs call it.
SLIPS = {
    "learning_rate": "lr eta base_lr",
    "batch_size": "bs b batch",
    "weight_decay": "wd",
    "optimizer": "opt optim",
    "warmup_epochs": "warmup",
    "epochs": "e ep max_epochs num_epochs n_epochs",
    "timesteps": "t time_steps time_step timestep steps",
    "seed": "random_seed manual_seed",
    "method": "loss kd",
    "hyper": "hyperparameters hparams",
    "student": "model net network",
    "neuron": "node",
    "decay": "tau",
    "dataset": "data ds",
    "data_dir": "data_path root data_root",
    "augment": "augmentation aug",
    "out": "output output_dir out_dir save_dir log_dir logdir o",
    "resume": "ckpt checkpoint continue load",
    "devices": "gpus gpu num_gpus ngpu num_devices",
    "precision": "amp fp16 bf16 half dtype",
    "accumulate": "grad_accumulation accumulation_steps grad_accum",
    "num_processes": "world_size nproc nnodes",
    "process_id": "rank local_rank",
    "coordinator": "master_addr dist_url",
    "log": "verbose quiet",
}


def unknown_flag(word: str, value: str, flags: Collection[str]) -> InputError:
    """The error for a flag of a command line, such as `--lr`, and the value that follows it."""
    flag, _, own_value = word.partition("=")
    name, value = flag.lstrip("-").replace("-", "_"), own_value or value or "VALUE"
    if (meant := "--" + _usual(name).replace("_", "-")) in flags:
        nearest = f"; did you mean {meant}?"
    elif name in _hyperparameters() and "--hyper" in flags:
        nearest = f"; did you mean --hyper {name}={value}?"
    elif name in STEPS and "--augment" in flags:
        nearest = f"; did you mean --augment, with {name} among its steps?"
    else:
        nearest = did_you_mean("--" + name.replace("_", "-"), flags)
    return InputError(f"{flag}: unknown option{nearest or '; --help lists all'}")


def unknown_keyword(name: str, value: Any, known: Collection[str]) -> InputError:
    """The error for a keyword argument, such as `lr`."""
    if _usual(name) in known:
        nearest = f"; did you mean {_usual(name)}?"
    elif name in _hyperparameters() and "hyper" in known:
        nearest = f"; did you mean hyper={ {name: value} }?"
    else:
        nearest = did_you_mean(name, known)
    return InputError(f"{name}: unknown option{nearest}")


def _usual(name: str) -> str:
    """What this package calls an option that others call so; empty if no other does."""
    return next((option for option, names in SLIPS.items() if name.lower() in names.split()), "")


def _hyperparameters() -> set[str]:
    return {name for method in METHODS for name in hyperparameters(method)}
