"""Reads and writes weight files of other projects: PARE, HRNet, torchvision and others."""
