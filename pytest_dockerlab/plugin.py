"""The pytest entry point: options, and nothing else until `--dockerlab` is given."""
