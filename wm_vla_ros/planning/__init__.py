"""Planning in latent space: samplers, objective terms, and the model-predictive controller over them."""
