"""What the checks stand on: the programs that run, the alerts that are sent, and what comes out."""
