"""Windows to train on: where they come from, in which order, as which batches."""
