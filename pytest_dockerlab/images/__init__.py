"""The images that labs build on: which name stands for which image, and stand-ins where no registry answers."""
