"""Training: objectives, the one loop, runs of several seeds, exact resume, processes and devices."""
