"""The trained claims of each chapter, with their results; ``course_lib.measure`` runs them."""
