"""Networks that were trained on something else before: where their weights come from, how they
want their images, and what is left of them without their head."""
