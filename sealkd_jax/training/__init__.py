"""Training: a pure step, an epoch as one compiled program, and the loop around it with its checkpoints."""

from sealkd_jax.training.batch import Batch, gather
from sealkd_jax.training.epoch import EpochSpec, epoch_order, make_epoch, view_batch
from sealkd_jax.training.evaluation import (
    Counts,
    Evaluation,
    compile_evaluation,
    count_activity,
    firing_rates,
    make_evaluation,
)
from sealkd_jax.training.feed import on_devices
from sealkd_jax.training.loop import Trained, train
from sealkd_jax.training.optimizer import OPTIMIZERS, create_optimizer, learning_rate_schedule
from sealkd_jax.training.plan import Plan, PreparedPlan, prepare, steps_per_epoch
from sealkd_jax.training.profile import profile_steps
from sealkd_jax.training.seeds import train_seeds
from sealkd_jax.training.state import TrainState, init_state
from sealkd_jax.training.step import SpikeRate, make_step
from sealkd_jax.training.targets import Targets, balanced_weights
from sealkd_jax.weights.own import params_digest

__all__ = [
    "OPTIMIZERS",
    "Batch",
    "Counts",
    "EpochSpec",
    "Evaluation",
    "Plan",
    "PreparedPlan",
    "SpikeRate",
    "Targets",
    "TrainState",
    "Trained",
    "balanced_weights",
    "compile_evaluation",
    "count_activity",
    "create_optimizer",
    "epoch_order",
    "firing_rates",
    "gather",
    "init_state",
    "learning_rate_schedule",
    "make_epoch",
    "make_evaluation",
    "make_step",
    "on_devices",
    "params_digest",
    "prepare",
    "profile_steps",
    "steps_per_epoch",
    "train",
    "train_seeds",
    "view_batch",
]
