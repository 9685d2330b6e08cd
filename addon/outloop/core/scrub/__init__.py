"""Takes every form of a credential out of what comes back."""

from outloop.core.scrub.scrubber import MARK, Scrubber, ScrubSet, scrub

__all__ = ["MARK", "ScrubSet", "Scrubber", "scrub"]
