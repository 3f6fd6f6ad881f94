"""Packs face images into WebDataset shards, checks them, draws them and reads them back.

``python -m shards --help`` names the commands. In Python: :func:`shards.packer.pack`,
:func:`shards.reader.read_split`, :func:`shards.manifest.read_manifest`, :func:`shards.leakage.leaking_keys`. Nothing
here imports torch.
"""
