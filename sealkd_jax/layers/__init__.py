"""Layers that take all timesteps at once, and their fast implementations. Only `layers` and `models` use Flax."""
