"""What inputs are made of, whatever they are: odd text, numbers and files, and changes of them."""

from collections.abc import Sequence

from changes import DELETED, copy, cut, edit, fifo, link, remove, sparse, splice, write
from harness import Case, Change
from hypothesis import strategies as st

Strategy = st.SearchStrategy

ODD_TEXT = (
    *("", " ", "0", "-1", "3.5", "nan", "1e999", "999999999", "9" * 400, "true", "null", "~", "..", "../outside/x"),
    *("/dev/zero", "/dev/full", "x::y", "pipe:touch ../outside/executed", "-h", "--", "=", "a=b", "%s", "{x}", "$HOME"),
    *("`id`", "<b>", "a|b", "a\tb", "a\nb", "\x00", "\x1b[31m", "é", "\u202e", "\U0001f600", "*", "[", "a/b", "path"),
    *("label", "hf:a/b", "antigravity:X", "x" * 300, "x" * 5000),
)
AS_THEIRS = ("--data", "data", "--name", "theirs", "--split", "test")
"""What `import-predictions` needs beside a file."""
ODD_NUMBERS = (
    0,
    -1,
    1,
    2,
    3,
    7,
    255,
    256,
    4097,
    65536,
    10**6,
    999999999,
    2**31,
    2**63,
    10**30,
    0.5,
    -0.0,
    1e-320,
    1e308,
)
deep = st.sampled_from([(b"[", b"]"), (b'{"a":', b"}"), (b"[[1],", b"]")]).map(
    lambda ends: ends[0] * 100000 + b"1" + ends[1] * 100000
)
odd: Strategy = st.one_of(
    st.sampled_from(ODD_TEXT),
    st.sampled_from([*ODD_NUMBERS, float("nan"), float("inf"), -float("inf"), None, True, False]),
    st.sampled_from([[], {}, [[]], [None], [1, 2, 3], ["a", "a"], {"": 1}, {"a": {"b": [1]}}, [10**9], [0.5, 0.5]]),
)
odd_edit = st.tuples(st.integers(0, 400), st.one_of(odd, st.just(DELETED)))
shares = st.floats(0, 1, allow_nan=False)
bytes_of_all_kinds = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"", b"\xff\xfe", b"\x00" * 64, b"\xef\xbb\xbf", b"\n", b"\r", b'"', b"PK\3\4", b"<html>", b"\x80"]
    ),
)
words = st.sampled_from(ODD_TEXT).filter(lambda text: "\0" not in text)


def odd_content(path: str) -> Strategy:
    """A file's bytes changed somewhere, cut, deeply nested, or the file another kind of thing."""
    return st.one_of(
        st.tuples(shares, st.integers(0, 8), bytes_of_all_kinds).map(lambda piece: Change(splice, path, piece)),
        shares.map(lambda share: Change(cut, path, share)),
        deep.map(lambda content: Change(write, path, content)),
        st.sampled_from(["/dev/zero", "/dev/full", path.rpartition("/")[2], "../outside/precious.txt", "nowhere"]).map(
            lambda target: Change(link, path, target)
        ),
        st.sampled_from([fifo, remove]).map(lambda do: Change(do, path)),
        st.sampled_from([10**6, 10**9, 10**12]).map(lambda size: Change(sparse, path, size)),
    )


def edits(path: str) -> Strategy:
    """Values of a JSON or YAML file replaced or deleted."""
    return odd_edit.map(lambda change: Change(edit, path, change))


def cases(changes: Strategy, commands: Sequence[Sequence[str] | Strategy], base: Sequence[tuple[str, str]]) -> Strategy:
    """Copies of ``base`` (path, name), some ``changes``, and one of ``commands``, whose words may be strategies."""
    start = tuple(Change(copy, path, name) for path, name in base)
    lines = [st.tuples(*(word if isinstance(word, Strategy) else st.just(word) for word in line)) for line in commands]
    return st.builds(
        lambda steps, argv: Case((*start, *steps), tuple(word for word in argv if word)),
        st.lists(changes, min_size=1, max_size=3),
        st.one_of(lines),
    )


def any_of(*options: object) -> Strategy:
    return st.sampled_from(options)


def flattened(case: Case) -> Case:
    """With steps that are pairs as two steps."""
    steps = [each for change in case.changes for each in (change if isinstance(change, tuple) else (change,))]
    return Case(tuple(steps), case.argv)
