"""Training of π0: model, checkpoints, data, trainer. Ray only at its edge, in `workflows`."""
