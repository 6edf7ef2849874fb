"""Data sets: LeRobotDataset v3 out and in, episodes recorded in simulation."""
