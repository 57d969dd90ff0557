"""Language models' texts: who writes them, and how tokens compare."""
