"""Export of students to other runtimes, with a check of each file."""
