"""For all tests: Hypothesis without its deadline, which on a busy machine fails what is right."""

from hypothesis import settings

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
