"""Takes every form of a credential out of what comes back."""

from outloop.core.scrub.scrubber import MARK, SHORTEST_SECRET_BYTES, Scrubber, ScrubSet, scrub, without

__all__ = ["MARK", "SHORTEST_SECRET_BYTES", "ScrubSet", "Scrubber", "scrub", "without"]
