"""IFEval (Zhou et al. 2023): does a response follow instructions that a program can check?"""
