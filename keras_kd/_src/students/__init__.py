"""Students: models that are made of a student's and a teacher's parts."""
