"""How to read each figure, in a sentence or two, by the figure's name."""

HOW_TO_READ = {
    "accuracy_by_timestep": (
        "Blue: accuracy if the network is stopped after that many timesteps. Orange: each timestep by "
        "itself. Bars are one standard error. Where blue is already flat, fewer timesteps would do."
    ),
    "early_exit": (
        "Blue: every example stops as soon as the network is sure enough of it, which is written at "
        "some points; orange: all take the same number of timesteps. Where blue is above orange, easy examples have "
        "paid for hard ones."
    ),
    "firing_rates": (
        "Percent of a layer’s neurons that spike at a timestep, the first layer on top. A row near 0 is a "
        "dead layer; fewer spikes cost less energy."
    ),
    "accuracy": (
        "Accuracy of the mean logits after each epoch; the ring is the model that was kept. A widening "
        "gap between training and validation is overfitting. Every K-th epoch of K views shows the images as they are: "
        "training figures jump there."
    ),
    "loss": (
        "The training loss and its terms before weighting, averaged over each epoch: a term that stays "
        "flat is not being learnt."
    ),
    "wrong_timesteps": (
        "Share of training timesteps with a wrong prediction: what is left for error-aware alignment to correct."
    ),
    "optimisation": (
        "The schedule of the learning rate, and the norm of the gradient: jumps there are unstable steps."
    ),
    "error_raster": (
        "Each row is a test example that at least one timestep gets wrong, each orange cell a wrong "
        "timestep; most errors on top. A stripe only at the left is put right later; rows that are orange "
        "throughout are beyond the network."
    ),
    "sta_weights": (
        "How much the timestep of a row learns from that of a column, averaged over the test examples; a "
        "row sums to 1. A strong column is a timestep that is sure and agrees with the others. The "
        "colours stretch what may be small differences: mind the numbers."
    ),
    "confidence_by_timestep": (
        "Mean confidence (highest softmax probability) against accuracy of each timestep alone. "
        "Confidence above accuracy is overconfidence."
    ),
    "reliability": (
        "Test examples grouped by the confidence of the final output; the larger a dot, the more of them. "
        "On the diagonal the network is as sure as it is right, below it is too sure, above it too "
        "modest."
    ),
    "energy": (
        "Estimated energy to classify one example; the SNN’s total, then its layers. An estimate from "
        "counted operations, not a measurement."
    ),
    "accuracies": (
        "Large dots are means over seeds with one standard deviation, small dots the single seeds. Where "
        "small dots of two methods mingle, the methods may not differ."
    ),
    "differences": (
        "Mean difference to the reference, seed by seed, with its interval. Hollow and grey: the interval "
        "includes zero, so no difference is shown."
    ),
    "ladder": (
        "Each step to the right adds one idea; STA alone stands beside. Small dots are single seeds, bars "
        "one standard deviation."
    ),
    "ladder_by_timestep": (
        "Accuracy if stopped after that many timesteps, mean over seeds. A gap at the left is what a "
        "method gains where time is short."
    ),
}
