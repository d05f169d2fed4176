"""Whole jobs, one pair for each class of mistakes: as wrong as people write it, and its twin."""
