"""SeAl-KD for spiking neural networks in JAX: the losses and the neurons, as pure functions.

Importing this package loads jax alone. Models, data, training and reports are imported from their own modules.
"""

from sealkd_jax import losses, neurons, surrogates
