"""Numerics measured on this machine: candidates timed side by side, and checked against float32."""
