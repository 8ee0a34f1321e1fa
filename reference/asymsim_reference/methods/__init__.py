"""Reference implementations, one method a file: each does to tensors what its file in ``asymsim.methods`` counts."""
