"""A policy server that can be killed: `python -m tests.robot_served_circle PORT`."""

import sys

from robot.server import ServerConfig, run
from tests.robot_arms import Circle

if __name__ == "__main__":
    run(Circle(seconds=0.02), ServerConfig(port=int(sys.argv[1])))
