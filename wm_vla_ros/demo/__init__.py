"""What `wm-vla demo` does to a running stack, and what it shows of it."""
