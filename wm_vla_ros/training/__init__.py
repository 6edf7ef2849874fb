"""Training of world models and policies, from data sets to folders in models/."""
