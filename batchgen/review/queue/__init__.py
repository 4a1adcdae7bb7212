"""What is reviewed: the runs, the answers in order, the rubric."""
