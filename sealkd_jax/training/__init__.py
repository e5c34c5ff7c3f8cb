"""Training: a pure step, an epoch as one compiled program, and the loop around it with its checkpoints."""

from sealkd_jax.training.epoch import (
    DeviceData,
    Evaluation,
    Recipe,
    epoch_order,
    make_epoch,
    make_evaluation,
    make_piece,
    view_batch,
)
from sealkd_jax.training.feed import compile_evaluation, on_devices, survey_split
from sealkd_jax.training.loop import Plan, Trained, prepare, steps_per_epoch, train
from sealkd_jax.training.optimizer import OPTIMIZERS, create_optimizer, learning_rate_schedule
from sealkd_jax.training.seeds import train_seeds
from sealkd_jax.training.state import TrainState, init_state
from sealkd_jax.training.step import Batch, make_step
from sealkd_jax.training.survey import Survey, make_survey
from sealkd_jax.weights.own import params_digest

__all__ = [
    "OPTIMIZERS",
    "Batch",
    "DeviceData",
    "Evaluation",
    "Plan",
    "Recipe",
    "Survey",
    "TrainState",
    "Trained",
    "compile_evaluation",
    "create_optimizer",
    "epoch_order",
    "init_state",
    "learning_rate_schedule",
    "make_epoch",
    "make_evaluation",
    "make_piece",
    "make_step",
    "make_survey",
    "on_devices",
    "params_digest",
    "prepare",
    "steps_per_epoch",
    "survey_split",
    "train",
    "train_seeds",
    "view_batch",
]
