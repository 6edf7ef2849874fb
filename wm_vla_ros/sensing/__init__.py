"""From raw messages to what the models see: alignment of proprioception with images."""
