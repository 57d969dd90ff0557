"""The quickstart: few labels, many images, and a teacher."""
