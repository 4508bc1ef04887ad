"""What success means: loss, metrics, outputs, chance level; one file a task."""
