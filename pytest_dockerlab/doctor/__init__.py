"""`dockerlab doctor`: what this machine has and lacks for grading, a line each, with the command that mends it.

A check is a function that takes a `Machine` and returns findings; `examine.CHECKS` is the list of them.
"""
