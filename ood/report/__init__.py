"""Report: one page of tables that a person reads, and the picture of all methods."""
