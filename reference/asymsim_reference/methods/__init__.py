"""One method a file: what each pruning method does to real tensors, the twin of its cost in ``asymsim.methods``."""
