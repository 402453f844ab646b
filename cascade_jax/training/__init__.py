"""Training: the step, batches, the loop, cross-validation, pretraining on phantoms."""
