"""`wm-vla bench plan`: what a plan costs in time, beside what it is worth on a task with known dynamics."""
