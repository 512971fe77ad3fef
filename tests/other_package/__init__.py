"""What another project may have: a family and a method, each in one file."""
