"""Recordings of event cameras, published ones and a user's own, as frames of event counts."""

from sealkd_jax.data.events.cache import EventDataset
from sealkd_jax.data.events.cifar10_dvs import load_cifar10_dvs
from sealkd_jax.data.events.download import download
from sealkd_jax.data.events.dvs_gesture import load_dvs_gesture
from sealkd_jax.data.events.framing import Framing
from sealkd_jax.data.events.nmnist import load_nmnist
from sealkd_jax.data.events.own import frames_from_events, load_ncaltech101, load_recordings
from sealkd_jax.data.events.shd import load_shd
from sealkd_jax.data.events.single import read_frames

__all__ = [
    "EventDataset",
    "Framing",
    "download",
    "frames_from_events",
    "load_cifar10_dvs",
    "load_dvs_gesture",
    "load_ncaltech101",
    "load_nmnist",
    "load_recordings",
    "load_shd",
    "read_frames",
]
