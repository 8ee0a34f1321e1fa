"""Reference implementations in plain NumPy and PyTorch, in float64, of the methods and of the kernels."""
