"""Series in time: time stamps, equally spaced grids, seasons, and windows to forecast from."""
