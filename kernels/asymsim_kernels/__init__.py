"""Triton kernels of token-pruned inference, each with its exact cost, and the tools that check them without a GPU.

A kernel file holds the kernel, its launcher and `cost`, the FLOPs and bytes that it executes in closed form. `count`
and `sanitize` watch a kernel in Triton's interpreter (``TRITON_INTERPRET=1``); `resources` compiles the shipped
configurations for GPUs that need not be present. Everything here imports torch, triton and numpy alone.
"""
