"""A network's layers in training, in fewer and larger operations than the libraries'."""
