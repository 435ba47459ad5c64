"""Amaranth components of the LM-HT accelerator, one file each."""
