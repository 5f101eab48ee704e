"""The command line, for `python -m lapilli`."""

from lapilli.deploy.cli.app import main

if __name__ == "__main__":
    main()
