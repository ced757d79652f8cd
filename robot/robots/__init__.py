"""Robots: see `robot.robot.Robot`."""
