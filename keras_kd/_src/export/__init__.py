"""Files of students for other runtimes, each run before it is left."""
