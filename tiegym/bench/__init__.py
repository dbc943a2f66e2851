"""TieBench: every run of a small transformer on record, so that the best policy is known.

A table is read with NumPy alone. PyTorch is needed only to make one (`tiegym.bench.make`).
"""
