"""What the arm's state is now, and will be when the next action takes effect."""
