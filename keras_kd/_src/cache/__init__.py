"""Ask the teacher once: its answers on disk, in the place of the teacher."""
