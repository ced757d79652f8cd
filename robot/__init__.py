"""A policy on a robot: the wire between them, the server, the control loop, safety, robots.

Of this project's other packages it knows `ego_ops` only. What a policy is made of, and what is
simulated, comes from above, through the protocols of `robot.policy` and `robot.robot`.
"""
