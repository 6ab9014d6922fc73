"""From an artifact to a folder that a runtime on a phone or a laptop takes, with a test that goes along."""
