"""Campaigns: a plan of jobs that follows from the configuration, and the state of it, read from the run folders."""
