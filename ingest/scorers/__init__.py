"""Scorers: what gives verdicts on runs.

`registry.find` finds one by what the user calls it; `scorer` says what one is. `ingest.scoring` asks them and stores
what they say.
"""
