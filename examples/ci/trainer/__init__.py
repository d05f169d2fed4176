"""The program that the files beside this folder check."""
