"""Measures of trained networks: (model, images) -> number."""
