"""Devices and processes: how a batch is sharded, and how several processes of one run work together."""
