"""For all tests: a property is wrong or right, however long a busy machine takes over one example."""

from hypothesis import settings

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
