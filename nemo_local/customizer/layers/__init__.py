"""Layers of a network in training, in fewer and larger operations than the libraries take."""
