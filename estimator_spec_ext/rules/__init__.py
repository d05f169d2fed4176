"""The rules, one a file or one small family a file. `registry.py` lists them."""
