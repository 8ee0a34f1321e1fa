"""Tools around the kernels: counting, proofs, the sanitizer, offline compilation and measuring."""
