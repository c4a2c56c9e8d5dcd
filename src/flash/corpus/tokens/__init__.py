"""Text -> shards of token ids with word-start bits, in tasks that can be lost and done again.

settings, splits -> plan      what there is to do: a list of tasks that depends on the input alone
job                           the plan with all that a worker needs, as files in a work folder
tokenize (runs, ordering)     stage 1: one task's text -> sorted runs of rows
shards (packing, rows)        stage 2: the runs' rows of one stretch of the order -> one shard
finish                        rejects, manifest, the folder put in its place
local_engine, datatrove_engine      who runs the stages: processes here, or datatrove on one or many machines
"""
