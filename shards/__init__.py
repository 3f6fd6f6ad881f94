"""Packs face images into WebDataset shards, checks them, draws them and reads them back.

``python -m shards --help`` names the commands. In Python: `shards.packing.packer.pack`,
`shards.reading.reader.read_split`, `shards.manifest.read_manifest`, `shards.leakage.find.leaking_keys`. Nothing here
imports torch.
"""
