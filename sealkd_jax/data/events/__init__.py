"""Recordings of event cameras: N-MNIST, DVS128 Gesture and CIFAR10-DVS, as frames of event counts."""

from sealkd_jax.data.events.cache import EventDataset
from sealkd_jax.data.events.cifar10_dvs import load_cifar10_dvs
from sealkd_jax.data.events.download import download
from sealkd_jax.data.events.dvs_gesture import load_dvs_gesture
from sealkd_jax.data.events.framing import Framing
from sealkd_jax.data.events.nmnist import load_nmnist
from sealkd_jax.data.events.single import read_frames

__all__ = ["EventDataset", "Framing", "download", "load_cifar10_dvs", "load_dvs_gesture", "load_nmnist", "read_frames"]
