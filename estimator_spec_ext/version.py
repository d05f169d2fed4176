"""The version's only place; setup.py reads it as text, so that building needs no TensorFlow."""

__version__ = '0.1.0'
