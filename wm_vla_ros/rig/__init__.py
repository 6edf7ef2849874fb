"""Both loops in one process under virtual time, without ROS; what collects episodes and evaluates in it."""
