"""Reads model files. These modules travel into a container and run there, so they know only Python 3.8 and its library.

Nothing here loads a model: pickles are read by an unpickler that makes no object of the file's choosing, and every
other format is read as the bytes that it is. `h5py` is used where the container has it.
"""
