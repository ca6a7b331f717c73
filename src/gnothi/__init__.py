"""Gnothi."""
