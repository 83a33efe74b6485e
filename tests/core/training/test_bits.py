import numpy as np

from tasks.core.training.bits import Bits, digest, digests, of_cells

VALUES = np.array([[1.0, -0.5], [0.0, 3.0]], np.float32)


def test_a_digest_is_of_every_bit():
    """Equal values have one digest, wherever they lie in memory; the last bit of one value, or its sign, changes it."""
    assert digest(np.asfortranarray(VALUES)) == digest(VALUES) == digest(VALUES.astype(">f4"))
    last = VALUES.copy()
    last[1, 1] = np.nextafter(last[1, 1], np.float32(4))
    sign = np.where(VALUES == 0, np.float32(-0.0), VALUES)
    assert len({digest(each) for each in (VALUES, last, sign, VALUES.T)}) == 4


def test_one_nan_is_like_another():
    """The bits of a NaN, which say nothing, do not count; where it stands does."""
    quiet, other = np.array([0x7FC00000, 0xFFC00001], np.uint32).view(np.float32)
    one, two, elsewhere = (np.array(each, np.float32) for each in ([quiet, 1], [other, 1], [1, quiet]))
    assert one.tobytes() != two.tobytes()
    assert digest(one) == digest(two) != digest(elsewhere)


def test_stacks_have_the_digests_of_their_cells():
    """Of arrays with an axis of cells, each cell has the digests that its own arrays have."""
    stack = np.stack([VALUES, VALUES + 1])
    assert of_cells({"w": stack}, 2) == [digests({"w": VALUES}), digests({"w": VALUES + 1})]


def test_the_whole_changes_with_every_stage():
    """The digest of all depends on each of them and on its name; without any there is none."""
    found = {"w": "1"}, {"w": "2"}, {"w": "3"}
    others = [Bits(*(*found[:at], {"w": "4"}, *found[at + 1 :])) for at in range(3)]
    wholes = {each.whole for each in (Bits(*found), Bits({"v": "1"}, *found[1:]), *others)}
    assert len(wholes) == 5
    assert {len(each) for each in wholes} == {8}
    assert Bits().whole == ""
