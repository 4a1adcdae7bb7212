"""IFEval (Zhou et al. 2023): whether a response follows instructions that a program can check."""
