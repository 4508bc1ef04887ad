"""Controlled experiments on a copy that convict or acquit a finding; one file a trial."""
