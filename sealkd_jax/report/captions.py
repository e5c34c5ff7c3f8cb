"""How to read each figure, in a sentence or two, by the figure's name."""

HOW_TO_READ = {
    "accuracy_by_timestep": (
        "Blue: accuracy if the network is stopped after that many timesteps. Orange: each timestep by "
        "itself. Bars are one standard error. Where blue is already flat, fewer timesteps would do."
    ),
    "firing_rates": (
        "Percent of a layer’s neurons that spike at a timestep, the first layer on top. A row near 0 is a "
        "dead layer; fewer spikes cost less energy."
    ),
    "accuracy": (
        "Accuracy of the mean logits after each epoch; the ring is the model that was kept. A widening "
        "gap between training and validation is overfitting."
    ),
    "loss": (
        "The training loss and its terms before weighting, averaged over each epoch: a term that stays "
        "flat is not being learnt."
    ),
    "wrong_timesteps": (
        "Share of training timesteps with a wrong prediction: what is left for error-aware alignment to "
        "correct."
    ),
    "optimisation": (
        "The schedule of the learning rate, and the norm of the gradient: jumps there are unstable steps."
    ),
}
