"""Your own pictures, a folder a class, a hundred of them or ten thousand: a small student at T = 4 from a small ANN.

    python -m train.distill folder --dataset folder:pictures

`pictures/CLASS/*` is split by itself, or you give `train`, `val` and `test` (docs/data.md). Pictures of any size and
kind become 64x64 RGB (--image-size); the batch follows from their number. Trained on your pictures alone, the teacher
of so few knows little; give one that knows more (--teacher).
"""

from sealkd_jax.programs.options import make_preset

PRESET = make_preset(
    dataset="folder:pictures",
    image_size=64,
    teacher="convnet",
    teacher_width=0.5,
    epochs=60,
    batch_size=0,
    optimizer="adamw",
    learning_rate=2e-3,
    weight_decay=1e-2,
    warmup_epochs=3,
    augment="resized_crop(0.4) | flip",
    for_student={"student": "spiking-conv4", "views": 16},
)
