"""The trained claims of the course: a folder a chapter, results beside them; ``course_lib.measure`` runs them."""
