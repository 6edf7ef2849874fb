"""Which nodes make a stack, said once; and running it without a ROS 2 install."""
