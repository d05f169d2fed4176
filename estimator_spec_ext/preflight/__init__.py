"""Rehearses a whole job before it is paid for.

This module stays empty, so that importing the package loads nothing of it: `api` is the door.
"""
