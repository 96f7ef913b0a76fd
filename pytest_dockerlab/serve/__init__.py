"""Serving: talk to a student's model server, read its answers, and judge them."""
