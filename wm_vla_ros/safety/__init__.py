"""What stands between a command and the arm: pure logic under an injected time, without ROS or threads."""
