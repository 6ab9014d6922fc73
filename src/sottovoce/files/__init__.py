"""Files as this house writes and reads them: whole or not at all, sealed, replaced without loss."""
