"""The fault campaign: numbered cases, where each injects its fault, and the invariants it is judged by."""
