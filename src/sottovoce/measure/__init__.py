"""What a compression did: transcripts first, scores from them, comparisons, sweeps."""
