"""Data sets on the host, for training containers that have no network. No torch is needed here.

`mnist` keeps MNIST in the cache folder, `subset` and `mirrors` are where it comes from, `digits` reads the images that
the harness asks a server about, `idx` is the file format. Nothing is imported here: the names live in the modules, so
that `--help` does not wait for numpy.
"""
