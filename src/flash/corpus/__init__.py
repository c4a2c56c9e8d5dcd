"""Text strand: raw text -> a dataset with whole-word references, and the tokenizer that goes with it; no torch.

input_files -> byte_streams -> lines -> documents      reading, whatever is in the files
clean -> split (sentences, token_spans) -> segment -> word_refs      one document to annotated blocks (annotate)
batches, workers -> arrow, staging -> prepare      many documents to one dataset folder
tokens/      many documents to shards of token ids, in tasks that can be lost and done again
"""
