"""pytest-dockerlab: grades container and deep-learning labs on a real container engine."""

__version__ = "0.1.0"
