"""Columns of tables: what each holds, and its cells as numbers."""
