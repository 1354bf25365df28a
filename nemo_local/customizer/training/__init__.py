"""What runs in the process of a training. The control plane imports none of it."""
