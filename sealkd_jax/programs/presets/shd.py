"""Spiking Heidelberg Digits (spikes of 700 channels at 140, 20 spoken digits): a dense student at T = 20 from an ANN.

    python -m train.distill shd --data-dir DIR

Frames are [T, 1, 140, 2], all events of one polarity; the student is dense, and the teacher convolves along the
channels of the mean frame, which has no order in time. Not run: the data were not available. Expected: less than the
95 % that recurrent networks report.
"""

from sealkd_jax.programs.options import make_preset

PRESET = make_preset(
    dataset="shd",
    timesteps=20,
    teacher="resnet18",
    teacher_width=0.25,
    epochs=50,
    batch_size=128,
    optimizer="adamw",
    learning_rate=1e-3,
    weight_decay=1e-2,
    warmup_epochs=2,
    augment="time_shift(2)",
    for_student={"student": "spiking-mlp", "neuron": "plif", "views": 8},
)
