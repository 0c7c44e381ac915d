"""Convolutions over time as attacks run them, dense and event-driven."""
