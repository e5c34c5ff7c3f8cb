"""CIFAR-10 (32x32 RGB, 10 classes) by the paper's recipe: spiking ResNet-18 at T = 4 from a ResNet-34, 300 epochs.

python -m train.distill cifar10
"""

from train.options import DistillOptions, Preset, TeacherOptions

# Sun et al., arXiv 2605.14252: SGD, cosine, weight decay on kernels only, AutoAugment and Cutout.
RECIPE = {
    "epochs": 300,
    "batch_size": 128,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "weight_decay": 5e-4,
    "crop": 4,
    "flip": True,
    "auto_augment": True,
    "cutout": 16,
}

PRESET = Preset(
    distill=DistillOptions(
        dataset="cifar10", student="spiking-resnet18", teacher="resnet34", timesteps=4, views=16, **RECIPE
    ),
    teacher=TeacherOptions(dataset="cifar10", teacher="resnet34", **RECIPE),
)
