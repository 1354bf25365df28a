"""Code that runs in training processes; the control plane imports none of it."""
