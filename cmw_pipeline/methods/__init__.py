"""Methods: one small file each, all behind the contract in ``base``."""
