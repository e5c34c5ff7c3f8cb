"""ImageNet-100 (224x224 RGB, 100 classes of ImageNet) by the recipe of the preset imagenet.

    python -m train.distill imagenet100 --data-dir DIR --precision bfloat16

Streams DIR/imagenet100: train/CLASS and val/CLASS, a choice of ImageNet's own folders, or train.X1/CLASS to
train.X4/CLASS and val.X/CLASS, as it is published in parts. Which 100 classes these are differs between papers; name
the list with a result. Not run: the data were not available.
"""

from dataclasses import replace

from sealkd_jax.programs.presets import imagenet

PRESET = imagenet.PRESET._replace(
    distill=replace(imagenet.PRESET.distill, dataset="imagenet100", batch_size=128, learning_rate=0.1),
    teacher=replace(imagenet.PRESET.teacher, dataset="imagenet100", batch_size=128),
)
