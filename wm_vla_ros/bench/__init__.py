"""Speed and regularity: the fast loop, a plan, a message, a slow policy, each beside a baseline."""
