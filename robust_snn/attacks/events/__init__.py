"""Attacks on event frames."""
