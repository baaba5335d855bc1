"""skyt1-doctor: finds what stands between a recipe and a training run, mends it, and proves it."""

__version__ = "0.1.0"
