"""Layers that see all timesteps at once, and the fast paths below them. Flax is used here and in `models`."""
