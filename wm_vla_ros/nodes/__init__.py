"""Thin ROS 2 nodes: they translate messages; the work is done by the packages they import."""
