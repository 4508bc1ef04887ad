"""Batches in, updates out."""
