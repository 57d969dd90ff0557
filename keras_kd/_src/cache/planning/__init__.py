"""What a plan is made of: choices, measured and weighed."""
