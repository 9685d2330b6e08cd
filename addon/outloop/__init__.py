"""Outloop: AI agents use credentials they never see."""

__version__ = "0.1.0"
