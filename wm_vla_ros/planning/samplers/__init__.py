"""Samplers: populations of action sequences, and how costs turn them into the next population's mean."""
