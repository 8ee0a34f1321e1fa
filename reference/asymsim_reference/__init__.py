"""Plain NumPy and PyTorch versions, in float64, of what the simulator costs and the kernels compute."""
