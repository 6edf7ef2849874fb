"""What a learned model is worth on recorded episodes that it was not trained on."""
