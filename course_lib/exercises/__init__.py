"""What the exercises of each chapter ask: right answers, inputs, and the mistakes that learners make.

A notebook of ``layers/attention`` begins with::

    from course_lib.exercises.layers.attention import check, solution
"""
