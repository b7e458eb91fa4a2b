"""The meta-learned weighting: weight nets, class groups, the look-ahead gradient, meta-sets."""
