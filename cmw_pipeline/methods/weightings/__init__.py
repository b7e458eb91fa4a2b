"""Weightings: how much each sample's loss counts; one small file each, behind the contract in ``base``."""
