"""The comparison of a chapter's layers, where notebooks look for it."""

from course_lib.compare.table import side_by_side_table as side_by_side_table
