"""Training by several processes: ranks, their launch, shared updates and synchronised norms."""
