"""``python -m asymsim``."""

from asymsim.cli.app import main

if __name__ == "__main__":
    main()
