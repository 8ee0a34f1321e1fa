"""Times of operator rows: closed forms of kernels, a roofline where nothing was measured."""
