"""Fashion-MNIST (28x28 grey, 10 classes): a three-convolution student at T = 4 from a small convolutional ANN.

    python -m train.distill fashion-mnist

Time: an hour on two CPU cores. Expected: 91 %. Seen: 85.4 % after one epoch at half width (docs/data.md).
"""

from sealkd_jax.programs.options import make_preset

PRESET = make_preset(
    dataset="fashion-mnist",
    teacher="convnet",
    epochs=10,
    batch_size=128,
    optimizer="adamw",
    learning_rate=3e-3,
    weight_decay=1e-2,
    warmup_epochs=1,
    augment="crop(2) | flip",
    for_student={"student": "spiking-conv", "views": 4},
)
