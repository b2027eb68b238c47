"""The console's commands, one a file. ``cli`` parses, these do."""
