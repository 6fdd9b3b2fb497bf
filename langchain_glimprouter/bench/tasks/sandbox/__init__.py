"""Runs programs that a model wrote, so that they can do no harm."""
