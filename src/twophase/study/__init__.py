"""What a study may ask for, and what follows from it without computing: no PyTorch here.

Nothing of this folder counts in a fingerprint: options count by their values.
"""
