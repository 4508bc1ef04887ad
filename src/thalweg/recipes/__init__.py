"""Strong defaults: one function per task and scale; each cites its reason."""
