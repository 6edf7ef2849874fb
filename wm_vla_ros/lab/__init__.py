"""Small worlds in which an idea can be seen whole, in minutes and on one core."""
