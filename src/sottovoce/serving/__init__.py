"""Transcription over HTTP, in the shapes of OpenAI's audio interface, and over a WebSocket for live clients."""
