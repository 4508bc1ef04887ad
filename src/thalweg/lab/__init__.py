"""The classic experiments, one file a claim: question, source, our run, verdict."""
