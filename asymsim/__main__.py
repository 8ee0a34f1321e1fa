"""``python -m asymsim``."""

from asymsim.cli import main

if __name__ == "__main__":
    main()
