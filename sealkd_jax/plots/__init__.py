"""Figures of one run and of a comparison of methods: arrays in, a `matplotlib.figure.Figure` out.

They use no pyplot and no global state, so they work in threads and without a display. Each module holds the figures of
a section of the report; `panels.PANELS` has all of them by name, with their captions.
"""
