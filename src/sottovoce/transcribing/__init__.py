"""Recordings to transcripts: jobs over folders that go on where they stopped, and the formats that are written."""
