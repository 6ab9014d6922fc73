"""What a sweep found, for people: one table in six formats, and a plot of WER against size."""
