"""From samples to text: what a name opens, what audio it can use, searches, languages."""
