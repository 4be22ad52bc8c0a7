"""What is claimed about speed and quality, each runnable by one command."""
