"""The commands of `offworld`, one module each; `services/cli.py` lists and loads them."""
