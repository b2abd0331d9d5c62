"""Oracles, generators and commands that tests share."""
