"""What every service shares: settings, clients, logging, the edge of a command."""
