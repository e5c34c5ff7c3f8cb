"""Your own recordings of events, a folder a class, a hundred or more: a small student at T = 8 from a small ANN.

    python -m train.distill events --dataset events:recordings

`recordings/CLASS/*` is split by itself, or you give `train`, `val` and `test` (docs/data.md). The longer side of a
frame has 64 pixels (--frame-size); the batch follows from the number of recordings. The teacher sees the mean frame.
"""

from sealkd_jax.programs.options import make_preset

PRESET = make_preset(
    dataset="events:recordings",
    timesteps=8,
    frame_size=64,
    teacher="convnet",
    teacher_width=0.5,
    epochs=40,
    batch_size=0,
    optimizer="adamw",
    learning_rate=2e-3,
    weight_decay=1e-2,
    warmup_epochs=3,
    augment="roll(3)",
    for_student={"student": "spiking-conv4", "views": 8},
)
