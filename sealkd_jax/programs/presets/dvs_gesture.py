"""DVS128 Gesture (events of a 128x128 sensor, 11 gestures): a spiking VGG at T = 16 from a ResNet-18.

    python -m train.distill dvs-gesture --data-dir DIR [--frame-size 64]

Expected on the official recordings: 95 % and more (99.08 % is the best reported). Seen: six recordings only, no
accuracy. Nothing is mirrored: a gesture of the left hand and one of the right are two classes.
"""

from sealkd_jax.programs.options import make_preset

PRESET = make_preset(
    dataset="dvs-gesture",
    timesteps=16,
    teacher="resnet18",
    epochs=200,
    batch_size=16,
    optimizer="adamw",
    learning_rate=1e-3,
    weight_decay=1e-2,
    warmup_epochs=5,
    augment="roll(8) | time_shift(2) | event_drop(0.2)",
    for_student={"student": "spiking-vgg", "views": 16},
)
