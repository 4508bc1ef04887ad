"""The one file that knows everyone: data + model + task + recipe → run → diagnosis."""
