"""The drawn world: the embedded default data, written in the real archives' formats.

Scenes of one to three OpenMoji glyphs on textured ground. It stands in for the real datasets so that the
whole study runs without a download; its numbers say nothing about photographs.
"""
