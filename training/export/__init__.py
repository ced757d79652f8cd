"""Shards in forms for others: LeRobot data sets, and a release without pixels."""
