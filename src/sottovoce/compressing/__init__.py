"""The verb compress, its loop over units, and what a stopped run leaves."""
