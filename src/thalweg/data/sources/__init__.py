"""Files to samples: one file a layout."""
