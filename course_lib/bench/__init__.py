"""What each chapter races against its peers, with the times; ``course_lib.compare`` measures them."""
