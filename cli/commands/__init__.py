"""One module for each command or group of commands; `cli.main` imports them when asked for."""
