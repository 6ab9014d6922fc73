"""A weight as parts: what it is made of, how it lies in a file, the table that lists it, what it costs."""
