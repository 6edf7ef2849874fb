"""Latent goals: where they come from, which one is in force, and the path they describe."""
