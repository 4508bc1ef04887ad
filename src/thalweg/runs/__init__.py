"""From a Plan to a Run: training by one process or many, checkpoints, resumption, the report."""
