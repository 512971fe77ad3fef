"""An example of another project: a family and a method, each in one file."""
