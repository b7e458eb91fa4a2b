"""Layout, published values and rendering of tables and figures; never imports torch."""
