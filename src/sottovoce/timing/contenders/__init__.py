"""What is timed: our own models and other programs, behind one face."""
