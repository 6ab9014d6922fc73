"""ggml: Whisper for whisper.cpp, with an artifact's own integers in blocks of 32."""
