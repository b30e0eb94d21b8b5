"""What each chapter races against its peers, times beside it; ``course_lib.compare`` measures them."""
