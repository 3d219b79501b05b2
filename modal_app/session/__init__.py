"""What a trainer process has to do with the world outside: its directory, its reports, being stopped."""
