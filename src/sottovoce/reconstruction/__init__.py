"""Learning a unit's compressed weights from what the uncompressed unit makes of its inputs, one unit at a time."""
