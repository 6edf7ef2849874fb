"""Rivals of the stack, told the truth, and the benchmarks that compare the stack with them."""
