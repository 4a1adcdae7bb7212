"""Judgements of people about answers: votes, agreement, and training data made of them."""
