"""Other programs that run the same models, timed beside our targets; importing one of them imports no torch."""
