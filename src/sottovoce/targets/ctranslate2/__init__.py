"""CTranslate2: Whisper for faster-whisper, with an artifact's own 8-bit integers."""
