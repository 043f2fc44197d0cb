"""What the training tool promises, as far as it can be said without training."""
