"""How far masks can be relied on: other sizes, corrupted images, how sure a map is, background thresholds."""
