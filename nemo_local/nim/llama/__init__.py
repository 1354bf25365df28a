"""The Llama architecture on a CPU: the network, and its kernels."""
