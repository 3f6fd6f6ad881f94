"""Our tars are those of webdataset's writer, byte for byte."""

import io
import tarfile

import pytest
import webdataset

from shards.packing.tar import sample_members, tar_end, tar_member


@pytest.mark.parametrize("samples", [0, 1, 2, 30])
def test_a_tar_has_the_bytes_that_webdataset_writes(samples: int) -> None:
    theirs = io.BytesIO()
    ours = b""
    with webdataset.TarWriter(theirs, user="", group="", mode=0o644, encoder=False, mtime=0) as tar:
        tar.tarstream.format = tarfile.USTAR_FORMAT
        for number in range(samples):
            key = "k" * (number + 1) if number < 29 else "x" * 89
            files = {"votes.json": b"{}", "cls": b"%d" % number, "png": bytes(700 * number)}
            tar.write({"__key__": key, **files})
            ours += sample_members(key, files.items())
    assert ours + tar_end(len(ours)) == theirs.getvalue()


def test_a_name_that_a_header_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="is too long for a tar"):
        tar_member("x" * 101, b"")
