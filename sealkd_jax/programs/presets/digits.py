"""scikit-learn's handwritten digits (8x8, 10 classes): the whole job in a minute, nothing downloaded.

python -m train.distill

Half a minute of two CPU cores with the teacher. The README has what it gives; other processors and versions round
otherwise, and of 360 test images one standard error is 0.8 points.
"""

from sealkd_jax.programs.options import DistillOptions, Preset, TeacherOptions

PRESET = Preset(
    distill=DistillOptions(
        dataset="digits",
        epochs=20,
        batch_size=64,
        optimizer="adamw",
        learning_rate=3e-3,
        weight_decay=1e-2,
        warmup_epochs=2,
        crop=1,
        student="spiking-conv",
        teacher="convnet",
        views=8,
    ),
    teacher=TeacherOptions(
        dataset="digits",
        epochs=20,
        batch_size=64,
        optimizer="adamw",
        learning_rate=3e-3,
        weight_decay=1e-2,
        warmup_epochs=2,
        crop=1,
        teacher="convnet",
    ),
)
