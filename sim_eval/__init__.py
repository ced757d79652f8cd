"""Policies in simulation: suites of tasks, episodes, statistics. Free of Ray, and of CUDA where it
renders."""
