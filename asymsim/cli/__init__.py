"""The command line: one file a command, each importing its work when it runs, so that ``--help`` is quick."""
