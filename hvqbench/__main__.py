"""``python -m hvqbench``."""

from hvqbench.cli import main

if __name__ == "__main__":
    main()
