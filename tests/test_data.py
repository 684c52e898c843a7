"""Data: opened safely, split by content, stored without loss, and refused in one paragraph where they cannot be."""

import gzip
import http.server
import io
import os
import struct
import threading
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jensen.data import Rows, batch_index, open_source, prepare
from jensen.data import download as downloads
from jensen.data.grid import grid_of
from jensen.data.named import data_folders
from jensen.data.schema import infer
from jensen.errors import DataError, FileFormatError, JensenError


def rng(seed=0):
    return np.random.default_rng(seed)


def schema_of(values, **options):
    values = np.asarray(values)
    return infer(values, values, name="t", **{"binarisation": "none", "seed": 0, **options})


def rows_of(splits):
    return {split: {row.numpy().tobytes() for row in rows} for split, rows in splits.stored.items()}


# -- splits ----------------------------------------------------------------------------------------------------------


@given(st.integers(3, 60), st.integers(1, 4), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_equal_rows_never_stand_on_two_sides(count, size, seed):
    values = rng(seed).integers(0, 4, (count, size))
    try:
        splits = prepare(open_source(values), seed=seed)
    except DataError as error:
        if len(np.unique(values, axis=0)) >= 3 and "one value in all" not in str(error):
            raise
        return
    parts = list(rows_of(splits).values())
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert all(len(rows) > 0 for rows in splits.stored.values())
    assert sum(len(rows) for rows in splits.stored.values()) == count


def test_splits_do_not_depend_on_the_order_of_rows():
    values = rng().integers(0, 256, (200, 5)).astype(np.uint8)
    one, two = prepare(open_source(values)), prepare(open_source(values[rng(1).permutation(200)]))
    assert rows_of(one) == rows_of(two)
    assert rows_of(one) != rows_of(prepare(open_source(values), seed=1))


def test_zero_and_minus_zero_are_one_content():
    values = rng().normal(size=(60, 2))
    values[:, 0] = np.where(rng(1).random(60) < 0.5, 0.0, 1.5)
    values[30:, 1] = values[:30, 1]
    values[30:, 0] = values[:30, 0]
    signed = values.copy()
    signed[30:][values[30:] == 0.0] = -0.0
    stored = prepare(open_source(signed)).stored
    parts = {split: {tuple(row.tolist()) for row in rows + 0.0} for split, rows in stored.items()}
    assert not parts["train"] & parts["test"] and not parts["train"] & parts["valid"]


@pytest.mark.parametrize("count", [3, 4, 5, 7, 12, 30])
def test_small_data_have_all_three_splits(count):
    values = rng().integers(0, 9, (count, 6)).astype(np.uint8)
    assert min(len(rows) for rows in prepare(open_source(values)).stored.values()) >= 1


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_rows_are_refused(count):
    with pytest.raises(DataError, match="at least 3 different rows"):
        prepare(open_source(rng().normal(size=(count, 3))))


def test_statistics_come_from_training_rows_only():
    values = rng().normal(size=(100, 2))
    splits = prepare(open_source(values))
    train = splits.user_rows("train")
    np.testing.assert_allclose(splits.schema.mean, train.mean(0), atol=1e-6)
    np.testing.assert_allclose(splits.schema.scale, train.std(0), atol=1e-6)
    moved = {s: splits.user_rows(s) + (100.0 if s != "train" else 0.0) for s in splits.stored}
    source = open_source(values)
    again = prepare(type(source)("t", moved, None))
    np.testing.assert_allclose(again.schema.mean, train.mean(0), atol=1e-6)


def test_what_makes_numbers_hard_to_read_is_noted():
    values = rng().normal(size=(80, 2))
    values[:40, 1] = 0.0
    assert any("density on such a value has no bound" in note for note in prepare(open_source(values)).notes)
    few = rng().integers(0, 4, 80)
    assert any("differ" in note for note in prepare(open_source(few)).notes)


def test_rows_shared_by_given_splits_are_noted():
    values = rng().integers(0, 9, (60, 4))
    splits = prepare(type(open_source(values))("t", {"train": values, "valid": values[:3], "test": values[5:9]}, None))
    assert len(splits.notes) >= 2 and "both train and test" in " ".join(splits.notes)


# -- schemas ---------------------------------------------------------------------------------------------------------

GRIDS = {
    "uint8": rng().integers(0, 256, (50, 4)).astype(np.uint8),
    "int": rng().integers(-5, 9, (50, 4)),
    "int step": 7 * rng().integers(-5, 9, (50, 4)) + 3,
    "int8": rng().integers(-128, 128, (50, 4)).astype(np.int8),
    "big-endian": rng().integers(0, 9, (50, 4)).astype(">i2"),
    "tenths": rng().integers(0, 10, (50, 4)) / 10,
    "thirds": rng().integers(-4, 10, (50, 4)) / 3,
    "float32 grid": (rng().integers(0, 256, (50, 4)) / 255).astype(np.float32),
    "float16": (rng().integers(0, 9, (50, 4)) / 8).astype(np.float16),
    "bool": rng().random((50, 4)) > 0.5,
    "two values": np.where(rng().random((50, 4)) > 0.5, 0.1, 0.7),
    "0 and 255": 255 * (rng().random((50, 4)) > 0.5).astype(np.uint8),
    "uint64": rng().integers(0, 9, (50, 4)).astype(np.uint64),
}


@pytest.mark.parametrize("name", GRIDS)
def test_values_on_a_grid_come_back_exactly(name):
    values = GRIDS[name]
    schema = schema_of(values)
    again = schema.user_values(schema.model_values(values), exact=True)
    assert schema.kind != "continuous"
    assert again.dtype == values.dtype.newbyteorder("=")
    np.testing.assert_array_equal(again, values)


def test_continuous_values_come_back_to_single_precision():
    values = rng().normal(size=(50, 4)) * [1e-6, 1, 1e6, 3] + [0, 5, -1e6, 0]
    schema = schema_of(values)
    again = schema.user_values(schema.model_values(values), exact=True)
    assert schema.kind == "continuous" and again.dtype == values.dtype
    assert (np.abs(again - values) / values.std(0)).max() < 1e-6


def test_draws_of_integer_columns_are_rounded_and_kept_in_range():
    values = rng().integers(0, 60_000, (50, 3)).astype(np.uint16)
    schema = schema_of(values)
    drawn = schema.user_values(torch.tensor([[-9.0, 0.0, 9.0]]), exact=True)
    assert schema.kind == "continuous" and drawn.dtype == np.uint16
    assert drawn[0, 0] == 0 and drawn[0, 2] == 65535 and drawn[0, 1] == round(schema.mean[1])


def test_draws_of_floats_are_kept_in_the_range_of_their_type():
    schema = schema_of((rng().normal(size=(50, 3)) * 2e4).astype(np.float16))
    drawn = schema.user_values(torch.tensor([[-9.0, 0.0, 9.0]]), exact=True)
    assert drawn.dtype == np.float16 and drawn[0, 0] == -65504 and drawn[0, 2] == 65504


def test_draws_of_truth_values_are_the_nearer_one():
    schema = schema_of(rng().random((50, 3)) < 0.4, density=True)
    drawn = schema.user_values(torch.tensor([[-0.9, 0.1, 0.9]]), exact=True)
    assert schema.kind == "continuous" and drawn.dtype == bool
    assert drawn.tolist() == [[False, False, True]]


def test_new_rows_of_another_kind_are_refused():
    grid, floats = schema_of(GRIDS["int"]), schema_of(rng().normal(size=(50, 4)))
    for schema, rows in (
        (grid, np.full((2, 4), 0.5)),
        (grid, np.full((2, 4), 99)),
        (grid, np.zeros((2, 3), int)),
        (floats, np.full((2, 4), 1e30)),
        (floats, np.full((2, 4), np.nan)),
        (floats, np.array([["a"] * 4])),
    ):
        with pytest.raises(DataError):
            schema.store(rows)


def test_log_jacobian_makes_densities_those_of_the_users_units():
    values = rng().normal(size=(60, 3))
    one, two = schema_of(values), schema_of(values * 40.0)
    assert two.log_jacobian - one.log_jacobian == pytest.approx(-3 * np.log(40.0), abs=1e-9)
    x = one.model_values(values)
    standard = torch.distributions.Normal(0.0, 1.0).log_prob(x.double()).sum(1) + one.log_jacobian
    users = torch.distributions.Normal(torch.tensor(one.mean), torch.tensor(one.scale)).log_prob(torch.tensor(values))
    torch.testing.assert_close(standard, users.sum(1).double(), atol=1e-4, rtol=0)
    image = schema_of(rng().normal(size=(60, 2, 2)) * 40.0)
    assert image.log_jacobian == pytest.approx(-4 * np.log(image.scale[0]))


def test_a_density_asked_for_takes_a_grid_as_continuous():
    schema = schema_of(GRIDS["uint8"], density=True)
    assert schema.kind == "continuous"
    assert schema.log_jacobian == pytest.approx(-np.log(GRIDS["uint8"].astype(float).std(0)).sum())


def test_levels_between_are_part_of_the_grid_and_8_bit_images_have_256():
    assert schema_of(np.array([[0, 4], [2, 8], [0, 8], [2, 4]])).levels == 5
    assert schema_of(np.array([[0, 200], [7, 8]], dtype=np.uint8)).levels == 256


# -- binarisation ----------------------------------------------------------------------------------------------------


def grey():
    return rng().integers(0, 17, (40, 8, 8)).astype(np.uint8)


def test_frozen_values_are_a_function_of_seed_and_content():
    schema = schema_of(grey(), binarisation="dynamic")
    stored = schema.store(grey())
    whole, order = schema.freeze(stored), torch.from_numpy(rng(1).permutation(40))
    assert torch.equal(schema.freeze(stored[order]), whole[order])
    assert torch.equal(torch.cat([schema.freeze(part) for part in stored.split(7)]), whole)
    assert not torch.equal(schema.model_copy(update={"seed": 1}).freeze(stored), whole)
    assert set(whole.unique().tolist()) == {0.0, 1.0}


def test_frozen_coins_have_the_grey_value_as_their_probability():
    schema = schema_of(rng().integers(0, 9, (2000, 64)), binarisation="static")
    stored = schema.store(rng(3).integers(0, 9, (2000, 64)))
    grey_values, frozen = schema.grey(stored).double(), schema.freeze(stored).double()
    error = (frozen - grey_values).sum() / (grey_values * (1 - grey_values)).sum().sqrt()
    assert abs(float(error)) < 4


def test_dynamic_binarisation_differs_per_call_and_is_a_function_of_the_seed():
    schema = schema_of(grey(), binarisation="dynamic")
    stored = schema.store(grey())
    torch.manual_seed(5)
    first, second = schema.encode(stored), schema.encode(stored)
    torch.manual_seed(5)
    assert torch.equal(schema.encode(stored), first) and not torch.equal(first, second)


def test_threshold_static_and_none():
    stored = schema_of(grey()).store(grey())
    plain = schema_of(grey()).encode(stored)
    assert torch.equal(schema_of(grey(), binarisation="threshold").encode(stored), (plain > 0.5).float())
    static = schema_of(grey(), binarisation="static")
    assert torch.equal(static.encode(stored), static.freeze(stored))
    assert torch.equal(plain, schema_of(grey()).freeze(stored))


def test_only_grey_values_can_be_binarised():
    with pytest.raises(DataError, match="binary already"):
        schema_of(GRIDS["bool"], binarisation="dynamic")
    with pytest.raises(DataError, match="continuous"):
        schema_of(rng().normal(size=(40, 3)), binarisation="static")


# -- batches ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_an_epoch_sees_each_row_once(count, size, epoch):
    batches = -(-count // size)
    parts = [batch_index(count, size, 0, epoch * batches + i) for i in range(batches)]
    assert sorted(torch.cat(parts).tolist()) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1 and max(map(len, parts)) <= size


def test_rows_need_rows():
    with pytest.raises(DataError):
        Rows(torch.zeros(0, 3))


# -- arrays that cannot be modelled ----------------------------------------------------------------------------------

NORMAL = rng().normal(size=(40, 3))


def changed(value, where=(5, 1), dtype=float):
    values = NORMAL.astype(dtype)
    values[where] = value
    return values


BAD = {
    "constant": (np.ones((40, 3)), "nothing to learn"),
    "constant column": (changed(7.0, (slice(None), 1)), "column 1"),
    "nan": (changed(np.nan), "row 5 at position \\[1\\]"),
    "inf": (changed(np.inf), "not finite"),
    "float32 max": (changed(np.finfo(np.float32).max, dtype=np.float32), "Rescale"),
    "1e308": (changed(1e308), "Rescale"),
    "1e-200": (NORMAL * 1e-200, "Rescale"),
    "denormal float32": ((NORMAL * 1e-40).astype(np.float32), "Rescale"),
    "±1e308": (np.where(NORMAL > 0, 1e308, -1e308), "Rescale"),
    "0-d": (np.array(3.0), "single value"),
    "no rows": (np.zeros((0, 3)), "empty"),
    "no columns": (np.zeros((30, 0)), "empty"),
    "empty list": ([], "empty"),
    "text": (np.array([["a", "b"]] * 20), "text"),
    "bytes": (np.array([[b"a"]] * 20), "text"),
    "complex": (NORMAL + 1j, "complex"),
    "objects": (NORMAL.astype(object), "Python objects"),
    "dates": (np.arange(20).astype("M8[D]"), "dates"),
    "durations": (np.arange(20).astype("m8[s]"), "durations"),
    "records": (np.zeros(20, dtype=[("a", "f4")]), "records"),
    "ragged": ([[1, 2], [3]], "list"),
    "None": (None, "single value"),
    "dict": ({"a": 1}, "single value"),
    "masked": (np.ma.masked_array(NORMAL, mask=NORMAL > 1), "masked"),
    "sparse": (torch.eye(40).to_sparse(), "to_dense"),
    "huge integers": (2**60 + rng().integers(0, 3, (40, 3)), r"2\*\*53"),
    "all rows equal": (np.broadcast_to(NORMAL[:1], (40, 3)), "1 differ"),
}


@pytest.mark.parametrize("name", BAD)
def test_arrays_that_cannot_be_modelled_are_refused(name):
    values, message = BAD[name]
    with pytest.raises(DataError, match=message) as caught:
        prepare(open_source(values))
    assert "\n" not in str(caught.value)


GOOD = {
    "one column": NORMAL[:, 0],
    "Fortran order": np.asfortranarray(NORMAL),
    "big-endian": NORMAL.astype(">f8"),
    "float16": NORMAL.astype(np.float16),
    "long double": NORMAL.astype(np.longdouble),
    "reversed": NORMAL[::-1],
    "list": NORMAL.tolist(),
    "tensor": torch.from_numpy(NORMAL).requires_grad_(),
    "bfloat16": torch.from_numpy(NORMAL).bfloat16(),
    "times 1e6": NORMAL * 1e6,
    "times 1e-6": NORMAL * 1e-6,
    "far from zero": NORMAL + 1e8,
    "four dimensions": rng().normal(size=(40, 2, 2, 2, 2)),
    "1x1x1": rng().integers(0, 256, (40, 1, 1, 1)).astype(np.uint8),
    "outlier": changed(1e12, (0, 0)),
}


@pytest.mark.parametrize("name", GOOD)
def test_other_arrays_are_standardised_or_put_on_their_grid(name):
    splits = prepare(open_source(GOOD[name]))
    x = splits.frozen("train")
    assert x.isfinite().all() and x.dtype == torch.float32
    assert len(x) + sum(len(splits.stored[s]) for s in ("valid", "test")) == 40
    if splits.schema.kind == "continuous":
        assert abs(float(x.mean())) < 1e-4 and float(x.std(0, correction=0).max()) == pytest.approx(1, abs=0.4)


# -- files -----------------------------------------------------------------------------------------------------------


def header(text):
    body = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body.encode()


def npy(values):
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=True)
    return buffer.getvalue()


def npz(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def idx(shape, content, kind=8):
    return struct.pack(">HBB", 0, kind, len(shape)) + struct.pack(f">{len(shape)}I", *shape) + content


def encrypted():
    content = bytearray(npz(x=npy(NORMAL)))
    content[6] |= 1
    content[content.find(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def damaged(content, place=-200):
    changed_content = bytearray(content)
    changed_content[place] ^= 255
    return bytes(changed_content)


CLAIMS = header("{'descr':'<f8','fortran_order':False,'shape':(4294967296,),}")  # 128 bytes that claim 32 GiB
IMAGES = rng().integers(0, 256, (40, 4, 4)).astype(np.uint8).tobytes()
GARBAGE = rng(9).integers(0, 256, 500, dtype=np.uint8).tobytes()
FILES = {
    "truncated.npy": npy(NORMAL)[:300],
    "truncated-header.npy": npy(NORMAL)[:50],
    "empty.npy": b"",
    "claims.npy": CLAIMS,
    "claims.npz": npz(x=CLAIMS),
    "negative.npy": header("{'descr':'<f8','fortran_order':False,'shape':(-5,3),}"),
    "overflow.npy": header("{'descr':'<f8','fortran_order':False,'shape':(99999999999999999999999,0),}"),
    "deep.npy": header("(" * 5000),
    "type.npy": header("{'descr':[1,2],'fortran_order':False,'shape':(4,),}"),
    "version.npy": b"\x93NUMPY\x09\x00" + npy(NORMAL)[8:],
    "objects.npy": npy(np.array([1, "x"], dtype=object)),
    "objects.npz": npz(x=npy(np.array([1, "x"], dtype=object))),
    "bomb.npz": npz(x=npy(np.zeros(20_000_000, np.uint8))),
    "bomb-idx1-ubyte.gz": gzip.compress(idx((20_000_000,), bytes(20_000_000))),
    "encrypted.npz": encrypted(),
    "truncated.npz": npz(x=npy(NORMAL))[:400],
    "damaged.npz": damaged(npz(x=npy(NORMAL)), 300),
    "several.npz": npz(a=npy(NORMAL), b=npy(NORMAL)),
    "none.npz": npz(),
    "splits.npz": npz(train=npy(NORMAL), valid=npy(NORMAL[:5, :2]), test=npy(NORMAL[:5])),
    "short-idx3-ubyte": idx((40, 4, 4), IMAGES[:-1]),
    "long-idx3-ubyte": idx((40, 4, 4), IMAGES + b"x"),
    "huge-idx2-ubyte": idx((2**32 - 1, 2**32 - 1), b""),
    "zero-idx1-ubyte": idx((0,), b""),
    "cut-idx3-ubyte.gz": gzip.compress(idx((40, 4, 4), IMAGES))[:-20],
    "damaged-idx3-ubyte.gz": damaged(gzip.compress(idx((40, 4, 4), IMAGES))),
    "kind.csv": b"1,2\n3,4\n",
    "kind": GARBAGE,
    **{f"garbage.{end}": GARBAGE for end in ("npy", "npz", "idx", "idx3-ubyte", "idx.gz", "ubyte.gz", "pt", "pkl")},
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_not_what_they_claim_are_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    with pytest.raises(JensenError) as caught:
        prepare(open_source(path))
    assert name.split(".")[0] in str(caught.value) and "\n" not in str(caught.value)


def test_no_memory_is_taken_for_a_claim(tmp_path):
    path = tmp_path / "claims.npz"
    path.write_bytes(FILES["claims.npz"])
    with pytest.raises(FileFormatError, match="34359738368 bytes, but holds only 128"):
        open_source(path)


@pytest.mark.parametrize("name", ["", " ", "missing.npy", "nobody-knows", "no/such", "x" * 5000, "a\0b", "."])
def test_names_that_nobody_knows_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.setenv("JENSEN_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        open_source(name)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["bomb.npz", "bomb-idx1-ubyte.gz"])
def test_bombs_are_not_unpacked(tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name])
    with pytest.raises(FileFormatError, match="not read"):
        open_source(tmp_path / name)


def test_a_bomb_that_claims_to_be_large_when_packed_is_not_unpacked(tmp_path):
    path = tmp_path / "claims.npz"
    np.savez_compressed(path, x=np.zeros((2000, 2000)))
    raw = bytearray(path.read_bytes())
    place = raw.rindex(b"PK\x01\x02") + 20  # the packed size in the list of what the file holds
    raw[place : place + 4] = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(FileFormatError, match="not read"):
        open_source(path)


def test_a_text_that_is_too_long_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("jensen.data.text._MAX_BYTES", 1000)
    (tmp_path / "a.txt").write_text("one more line\n" * 100)
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"one more line\n" * 100))
    for name in ("a.txt", "b.txt.gz"):
        with pytest.raises(FileFormatError, match="more than 1,000 bytes"):
            open_source(tmp_path / name)


def test_values_that_hardly_differ_are_no_grid():
    values = np.random.default_rng(0).random((40, 3))
    values[0, 0], values[1, 1] = 0.0, 1e-310
    assert infer(values, values, name="tiny", binarisation="none", seed=0).kind == "continuous"
    third = np.array([np.longdouble(1) / 3, np.longdouble(1 / 3), np.longdouble(2)]).repeat(20).reshape(30, 2)
    assert grid_of(third, 1 / 3, 2.0, pixels=False) == (1 / 3, 2 - 1 / 3, 2)  # one in double precision


@pytest.mark.parametrize("kind", [np.float64, np.int64])
def test_means_of_values_far_from_zero_keep_their_digits(kind):
    values = (1.7e9 + 30 * np.random.default_rng(0).standard_normal((2000, 2))).astype(kind)
    schema = infer(values, values, name="far", binarisation="none", seed=0)
    means = schema.user_values(schema.model_values(values).double(), exact=False)
    assert np.abs(means - values).max() < 1e-3


def test_folders_pipes_and_unreadable_files_are_refused(tmp_path):
    (tmp_path / "folder.npy").mkdir()
    os.mkfifo(tmp_path / "pipe.npy")
    for name in ("folder.npy", "pipe.npy"):
        with pytest.raises(DataError, match=r"folder|regular"):
            open_source(tmp_path / name)
    np.save(tmp_path / "locked.npy", NORMAL)
    (tmp_path / "locked.npy").chmod(0)
    if os.access(tmp_path / "locked.npy", os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(FileFormatError, match="may not be read"):
        open_source(tmp_path / "locked.npy")


def test_files_open_to_the_rows_they_hold(tmp_path):
    np.save(tmp_path / "a.npy", NORMAL)
    np.savez(tmp_path / "b.npz", images=NORMAL, labels=np.arange(40))
    (tmp_path / "c-idx3-ubyte").write_bytes(idx((40, 4, 4), IMAGES))
    (tmp_path / "d-idx3-ubyte.gz").write_bytes(gzip.compress(idx((40, 4, 4), IMAGES)))
    (tmp_path / "e.idx").write_bytes(idx((40, 3), NORMAL.astype(">f8").tobytes(), kind=14))
    for name, expected in (
        ("a.npy", NORMAL),
        ("b.npz", NORMAL),
        ("c-idx3-ubyte", np.frombuffer(IMAGES, np.uint8).reshape(40, 4, 4)),
        ("d-idx3-ubyte.gz", np.frombuffer(IMAGES, np.uint8).reshape(40, 4, 4)),
        ("e.idx", NORMAL),
    ):
        np.testing.assert_array_equal(open_source(tmp_path / name).arrays["all"], expected)
    assert open_source(tmp_path / "b.npz", key="labels").arrays["all"].shape == (40, 1)
    for name, key in (("b.npz", "nobody"), ("a.npy", "images")):
        with pytest.raises(DataError, match="--key"):
            open_source(tmp_path / name, key=key)


def test_what_was_taken_of_several_arrays_is_noted(tmp_path):
    for name, members in (("one", ["a"]), ("two", ["x", "y"])):
        np.savez(tmp_path / f"{name}.npz", **dict.fromkeys(members, NORMAL))
    assert open_source(tmp_path / "one.npz").notes == [] == open_source(tmp_path / "two.npz", key="y").notes
    (note,) = open_source(tmp_path / "two.npz").notes
    assert note == "took the array 'x' of x, y; jensen fit --key NAME takes another"


def test_given_splits_are_kept(tmp_path):
    np.savez(tmp_path / "s.npz", train=NORMAL, valid=NORMAL[:5] + 1, test=NORMAL[:7] + 2)
    splits = prepare(open_source(tmp_path / "s.npz"))
    assert {s: len(r) for s, r in splits.stored.items()} == {"train": 40, "valid": 5, "test": 7}


# -- named data ------------------------------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "folder", "shape", "counts"),
    [
        ("mnist", "mnist", (28, 28), (55_000, 5_000, 10_000)),
        ("fashion-mnist", "fashion-mnist", (28, 28), (55_000, 5_000, 10_000)),
        ("mnist-static", "mnist-static-binarized", (28, 28), (50_000, 10_000, 10_000)),
        ("freyfaces", "freyfaces", (28, 20), 1965),
        ("cifar10", "cifar10", (32, 32, 3), 10_000),
    ],
)
def test_named_data_have_their_known_shapes_and_counts(real_data, name, folder, shape, counts):
    real_data(folder)
    splits = prepare(open_source(name))
    found = tuple(len(splits.stored[s]) for s in ("train", "valid", "test"))
    assert splits.schema.event_shape == shape
    assert found == counts if isinstance(counts, tuple) else sum(found) == counts
    assert splits.schema.binary == name.startswith("mnist")


@pytest.mark.realdata
def test_a_folder_of_several_arrays_asks_for_a_choice(real_data):
    real_data("uci-binary")
    with pytest.raises(DataError, match="--key"):
        open_source("uci-binary")


@pytest.fixture
def wrong_mirror(tmp_path):
    (tmp_path / "mirror").mkdir()
    for file in downloads.SOURCES["mnist"][1]:
        (tmp_path / "mirror" / file).write_bytes(gzip.compress(b"not the digits"))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / "mirror"))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_download_that_is_not_the_known_file_is_refused_and_not_kept(tmp_path, wrong_mirror):
    with pytest.raises(DataError, match="SHA-256"):
        downloads.fetch("mnist", tmp_path / "kept", wrong_mirror)
    with pytest.raises(DataError, match="could not fetch"):
        downloads.fetch("mnist", tmp_path / "kept", wrong_mirror + "/nowhere")
    assert not (tmp_path / "kept").exists()


def test_a_download_that_was_interrupted_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("JENSEN_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (folder := data_folders()[-1] / "mnist").mkdir(parents=True)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"the first of four")
    asked = []
    monkeypatch.setattr(downloads, "fetch", lambda *args: asked.append(args))
    with pytest.raises(FileFormatError):
        open_source("mnist", download=True)
    assert asked == [("mnist", folder)]


def test_nothing_is_downloaded_unless_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("JENSEN_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = []
    monkeypatch.setattr(downloads, "fetch", lambda *args: asked.append(args))
    with pytest.raises(DataError, match="--download"):
        open_source("mnist")
    assert not asked
    with pytest.raises(DataError):
        open_source("mnist", download=True)
    assert len(asked) == 1
