"""The prompt pool: which prompts a model is let loose on, so many of each domain, from a configuration and a seed.

`config` says what a pool is to be, `pool` makes it of the prompts that a lake holds. What a row of somebody's file
means as a prompt, `ingest.readers.prompts` knows.
"""
