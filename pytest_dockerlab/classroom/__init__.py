"""The classroom: grade repositories that nobody trusts, judge again what is stored, set up labs in minutes."""
