"""Robots: specifications, kinematics, and the map between 7-D actions and joints."""
