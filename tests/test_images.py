"""Folders of images: found in order, turned upright, made one size, converted truly, and skipped only with a reason."""

import io
import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import jensen
import jensen.cli
from jensen.data import images as folders
from jensen.data import memory, open_source, prepare
from jensen.data.pixels import decode
from jensen.errors import DataError, FileFormatError, OptionError, RunError

TINY = {"steps": 2, "samples": 2, "hidden": [8], "latents": 2}


def rng(seed=0):
    return np.random.default_rng(seed)


def picture(seed=0, size=(24, 20), mode="RGB"):
    width, height = size
    pixels = rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def fill(folder, count=12, **options):
    for number in range(count):
        folder.mkdir(parents=True, exist_ok=True)
        picture(number, **options).save(folder / f"{number:03}.png")
    return folder


def notes(source):
    return "\n".join(source.notes)


def smooth(width, height):
    """Ramps, which any true resizing leaves as ramps."""
    y, x = np.mgrid[:height, :width]
    grey = 255 * (x / (width - 1) + y / (height - 1)) / 2
    return Image.fromarray(np.rint(grey).astype(np.uint8))


# -- finding ---------------------------------------------------------------------------------------------------------


def test_files_are_found_in_sorted_order_below_the_folder_without_hidden_ones(tmp_path):
    for number, name in enumerate(["b.PNG", "a.jpg", "B.png", "sub/z.gif", "sub/deep/y.WebP", "sub/a.tiff"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(tmp_path / name)
    for name in (".hidden.png", ".hidden/x.png", "sub/.x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(9).save(tmp_path / name)
    for name in ("Thumbs.db", "a.txt", "b.TXT", "README", ".DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    source = open_source(tmp_path)
    assert source.files["all"] == ["B.png", "a.jpg", "b.PNG", "sub/a.tiff", "sub/deep/y.WebP", "sub/z.gif"]
    assert "other files were passed over, by their endings: .txt 2, .db 1, no ending 1" in notes(source)
    assert not source.skipped
    np.testing.assert_array_equal(source.rows[2], open_source(tmp_path / "b.PNG", image_size=20).rows[0])


def test_links_are_followed_once_and_loops_end(tmp_path):
    fill(tmp_path / "photos" / "a", 3)
    fill(tmp_path / "elsewhere", 4, mode="L")
    (tmp_path / "photos" / "a" / "up").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "c").symlink_to(tmp_path / "elsewhere")
    source = open_source(tmp_path / "photos")
    assert [name.split("/")[0] for name in source.files["all"]] == ["a"] * 3 + ["b"] * 4


def test_pictures_of_runs_are_no_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "p")
    jensen.fit("p", out="p/runs/one", stop_after=1, **TINY)
    source = open_source("p")
    assert len(source.rows) == 12 and "1 run folder passed over" in notes(source)
    with pytest.raises(DataError, match="1 run folder, whose pictures are no data"):
        open_source("p/runs/one")


@pytest.mark.parametrize("name", ["photos", "photos/", "./photos", "../here/photos"])
def test_a_folder_is_named_as_users_name_it(tmp_path, monkeypatch, name):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    fill(tmp_path / "here" / "photos", 3)
    source = open_source(name)
    assert source.name == "photos" and source.reference == str(tmp_path / "here" / "photos")
    monkeypatch.chdir("photos")
    assert open_source(".").name == "photos"


def test_a_named_folder_may_hold_images_but_one_array_in_it_goes_before(tmp_path, monkeypatch):
    monkeypatch.setenv("JENSEN_DATA", str(tmp_path))
    fill(tmp_path / "faces", 3)
    assert open_source("faces").files["all"][0] == "000.png"
    np.save(tmp_path / "faces" / "rows.npy", rng().normal(size=(9, 2)))
    assert open_source("faces").rows.shape == (9, 2)
    assert open_source(tmp_path / "faces").rows.shape == (3, 20, 20, 3)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "x.md").touch()
    with pytest.raises(DataError, match=r"0 \.npy or \.npz files, 0 texts and no images"):
        open_source("bare")


def test_a_folder_without_images_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"\.jpg .*found no files"):
        open_source(tmp_path)
    for name in ("a.npy", "b.heic", "c.heic", "d.eps"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"found other files \(2 \.heic, 1 \.npy, 1 \.eps\)"):
        open_source(tmp_path)


# -- sizes -----------------------------------------------------------------------------------------------------------


def test_the_short_side_is_scaled_and_the_centre_kept(tmp_path):
    ramp = smooth(200, 100)
    ramp.save(tmp_path / "wide.png")
    smooth(100, 200).save(tmp_path / "tall.png")
    tall, wide = open_source(tmp_path, image_size=10).rows.astype(float)
    centre = np.asarray(ramp).astype(float)[:, 50:150]
    expected = centre.reshape(10, 10, 10, 10).mean((1, 3))
    assert np.abs(wide - expected)[1:-1, 1:-1].max() < 1.5  # the filter leans over the upper and lower edges
    assert np.abs(tall - wide.T).max() <= 1


def test_no_aliasing(tmp_path):
    stripes = np.zeros((300, 300), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")
    Image.fromarray(stripes).save(tmp_path / "b.jpg", quality=95)
    found = open_source(tmp_path, image_size=30).rows
    assert found.shape == (2, 30, 30)
    assert np.abs(found.astype(float) - 127.5)[:, 2:-2, 2:-2].max() < 8


def test_large_jpegs_are_unpacked_small_without_loss_of_what_is_kept(tmp_path):
    blocks = rng().integers(0, 256, (20, 20), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    of(blocks).save(tmp_path / "a.jpg", quality=95)
    of(blocks).save(tmp_path / "b.png")
    found, expected = open_source(tmp_path, image_size=20).rows.astype(float)
    assert np.abs(found - expected).max() < 10


@pytest.mark.parametrize(("size", "left", "top"), [((16, 16), 0, 0), ((21, 16), 2, 0), ((16, 23), 0, 3)])
def test_pixels_that_need_no_scaling_are_left_as_they_are(tmp_path, size, left, top):
    image = picture(size=size)
    image.save(tmp_path / "a.png")
    expected = np.asarray(image)[top : top + 16, left : left + 16]
    np.testing.assert_array_equal(open_source(tmp_path / "a.png", image_size=16).rows[0], expected)


@pytest.mark.parametrize(
    ("sizes", "side"), [([(80, 90)], 64), ([(20, 30), (50, 32), (200, 99)], 32), ([(2, 2)], 4), ([(99, 65)] * 2, 64)]
)
def test_the_default_side_is_64_or_the_median_short_side(tmp_path, sizes, side):
    for number, size in enumerate(sizes):
        picture(number, size=size).save(tmp_path / f"{number}.png")
    assert open_source(tmp_path).rows.shape == (len(sizes), side, side, 3)


def test_what_was_done_is_said(tmp_path):
    for number, size in enumerate([(30, 40), (30, 40), (8, 40), (1200, 90)]):
        picture(number, size=size).save(tmp_path / f"{number}.png")
    picture(5, size=(50, 60), mode="L").save(tmp_path / "5.jpg")
    found = open_source(tmp_path, image_size=16)
    assert found.notes == [
        "5 images: 4 sizes from 8×40 to 1200×90, made 16×16 in colour (short side to 16, centre crop; --image-size); "
        "modes RGB 4, L 1; 1 enlarged"
    ]
    assert "1 image: all 30×40, made 30×30" in notes(open_source(tmp_path / "1.png"))
    assert "as in the middle of all by short side; --image-size" in notes(open_source(tmp_path / "1.png"))
    picture(size=(16, 16)).save(tmp_path / "same.png")
    assert "1 image: all 16×16, kept in colour; modes RGB 1" in notes(open_source(tmp_path / "same.png"))


@pytest.mark.parametrize("size", [3, 1025, 0, -1, 10**9])
def test_sides_out_of_range(tmp_path, size):
    with pytest.raises(OptionError, match="--image-size"):
        open_source(fill(tmp_path / "p", 1), image_size=size)
    with pytest.raises(OptionError, match="--image-size"):
        jensen.fit(str(tmp_path / "p"), image_size=size)


def test_a_side_for_what_is_no_image_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", rng().normal(size=(9, 2)))
    for data in (tmp_path / "a.npy", "digits", rng().normal(size=(9, 2))):
        with pytest.raises(OptionError, match="--image-size 32"):
            open_source(data, image_size=32)
    with pytest.raises(OptionError, match="--image-size 32"):
        jensen.fit("digits", image_size=32, out=tmp_path / "run")
    with pytest.raises(DataError, match="--key"):
        open_source(fill(tmp_path / "p", 1), key="x")


def test_more_than_memory_holds_is_refused_with_a_side_that_fits(tmp_path, monkeypatch):
    fill(tmp_path, 8, size=(64, 64))
    monkeypatch.setattr(folders, "available_memory", lambda: 4 * 8 * 20 * 20 * 3)
    with pytest.raises(DataError, match=r"64×64 pixels.*--image-size, such as 20, or fewer images"):
        open_source(tmp_path)
    assert len(open_source(tmp_path, image_size=20).rows) == 8
    with pytest.raises(DataError, match="such as 20"):
        open_source(tmp_path, image_size=21)
    monkeypatch.setattr(folders, "available_memory", lambda: 10)
    with pytest.raises(DataError, match="Use fewer images"):
        open_source(tmp_path)
    monkeypatch.setattr(folders, "available_memory", lambda: None)
    assert len(open_source(tmp_path).rows) == 8


def test_memory_is_that_of_the_system_within_a_container(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    assert memory.available_memory() == 8000 * 1024
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 1\nactive_file 100000\ninactive_file 200000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_memory() == 8000 * 1024
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory.available_memory() == 400_000
    (tmp_path / "meminfo").write_text("nothing")
    (tmp_path / "memory.max").unlink()
    assert memory.available_memory() > 2**20


# -- orientation -----------------------------------------------------------------------------------------------------

# What a viewer must do to an image stored with each tag, by the standard: pixels are rows from the top, columns from
# the left, of the upright picture.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("tag", UPRIGHT)
@pytest.mark.parametrize("ending", ["png", "tiff", "webp"])
def test_orientation_tags_turn_images_upright(tmp_path, tag, ending):
    image, exif = picture(size=(16, 16)), Image.Exif()
    exif[0x0112] = tag
    path = tmp_path / f"a.{ending}"
    image.save(path, exif=exif, **({"lossless": True} if ending == "webp" else {}))
    source = open_source(path)
    np.testing.assert_array_equal(source.rows[0], UPRIGHT[tag](np.asarray(image)))
    assert ("1 turned by their EXIF orientation" in notes(source)) == (tag != 1)


@pytest.mark.parametrize("tag", UPRIGHT)
def test_orientation_of_large_jpegs_of_any_proportion(tmp_path, tag):
    upright = smooth(400, 300)
    pixels = np.asarray(upright)
    stored = {6: 8, 8: 6}.get(tag, tag)  # the other six undo themselves
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(np.ascontiguousarray(UPRIGHT[stored](pixels))).save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright.save(tmp_path / "b.png")
    for shape in ((20, 20), (12, 24)):
        found, expected = open_source(tmp_path, image_size=shape).rows.astype(float)
        assert np.abs(found - expected).max() < 4, tag


def test_damaged_tags_do_not_cost_the_image(tmp_path):
    picture(mode="L").save(tmp_path / "a.png", exif=b"Exif\0\0" + b"\xff" * 30)
    picture(mode="L").save(tmp_path / "b.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff")
    assert len(open_source(tmp_path).rows) == 2


# -- kinds of pixels -------------------------------------------------------------------------------------------------

LEVELS = np.tile(np.arange(0, 256, 17, dtype=np.uint8), (16, 1))  # 16 × 16, from black to white


def saved(path, image, **options):
    image.save(path, **options)
    return path


def of(values):
    return Image.fromarray(values)


def with_alpha(mode, alpha):
    image = of(LEVELS).convert(mode)
    image.putalpha(of(np.broadcast_to(alpha, LEVELS.shape).astype(np.uint8)))
    return image


def grey_palette():
    image = of(np.tile(np.arange(16, dtype=np.uint8), (16, 1))).convert("P")
    image.putpalette(np.repeat(np.arange(0, 256, 17), 3).tolist())
    return image


HALF = np.rint((LEVELS.astype(float) * 128 + 255 * 127) / 255)
KINDS = {
    "1.png": (of(LEVELS).convert("1", dither=Image.Dither.NONE), np.where(LEVELS > 127, 255, 0)),
    "L.png": (of(LEVELS), LEVELS),
    "LA.png": (with_alpha("L", 255), LEVELS),
    "LA half.png": (with_alpha("L", 128), HALF),
    "LA clear.png": (with_alpha("L", 0), 0 * LEVELS + 255),
    "P.png": (grey_palette(), LEVELS),
    "P.gif": (grey_palette(), LEVELS),
    "PA.tiff": (with_alpha("L", 255).convert("PA"), LEVELS),
    "RGB.png": (of(LEVELS).convert("RGB"), LEVELS),
    "RGBA.png": (with_alpha("RGB", 255), LEVELS),
    "RGBA half.png": (with_alpha("RGB", 128), HALF),
    "RGBA.webp": (with_alpha("RGB", 255), LEVELS),
    "CMYK.tiff": (of(LEVELS).convert("RGB").convert("CMYK"), LEVELS),
    "YCbCr.tiff": (of(LEVELS).convert("RGB").convert("YCbCr"), LEVELS),
    "I;16.png": (of(LEVELS.astype(np.uint16) * 257), LEVELS),
    "I;16 between.png": (of(LEVELS.astype(np.uint16) * 256 + 99), np.rint((LEVELS * 256.0 + 99) / 257)),
    "I;16B.tiff": (of(LEVELS.astype(">u2") * 257), LEVELS),
    "I.tiff": (of(LEVELS.astype(np.int32) * 257), LEVELS),
    "I.pgm": (of(LEVELS.astype(np.int32) * 257), LEVELS),
    "F one.tiff": (of(LEVELS.astype(np.float32) / 255), LEVELS),
    "F 255.tiff": (of(LEVELS.astype(np.float32)), LEVELS),
    "RGB.bmp": (of(LEVELS).convert("RGB"), LEVELS),
    "L.qoi": (of(LEVELS).convert("RGB"), LEVELS),
    "L.ppm": (of(LEVELS), LEVELS),
    "RGB.jp2": (of(LEVELS).convert("RGB"), LEVELS),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_pixel_becomes_the_grey_it_shows(tmp_path, name):
    image, expected = KINDS[name]
    source = open_source(saved(tmp_path / name, image, **({"lossless": True} if "webp" in name else {})))
    assert source.rows.shape == (1, 16, 16) and source.rows.dtype == np.uint8
    assert np.abs(source.rows[0].astype(float) - expected).max() <= ("YCbCr" in name), source.rows[0][0]
    assert ("laid over white" in notes(source)) == ("half" in name or "clear" in name)
    colour = open_source(tmp_path / name, image_size=(16, 16, 3))  # as a run on colour images takes it
    np.testing.assert_array_equal(colour.rows[0], np.repeat(source.rows[0][..., None], 3, -1))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "LAB", "P", "YCbCr"])
def test_colours_stay_what_they_are(tmp_path, mode):
    image = Image.new("RGB", (16, 16), (200, 40, 90))
    path = saved(tmp_path / "a.tiff", image.quantize() if mode == "P" else image.convert(mode))
    row = open_source(path, image_size=16).rows[0]
    assert row.shape == (16, 16, 3) and np.abs(row.astype(int) - [200, 40, 90]).max() <= 3
    grey = open_source(path, image_size=(16, 16)).rows[0]
    assert grey.shape == (16, 16) and abs(int(grey[0, 0]) - (0.299 * 200 + 0.587 * 40 + 0.114 * 90)) <= 3


def test_16_bits_are_scaled_before_they_are_resized(tmp_path):
    ramp = np.tile(np.linspace(0, 65535, 64), (64, 1)).astype(np.uint16)
    row = open_source(saved(tmp_path / "a.png", of(ramp)), image_size=8).rows[0].astype(float)
    expected = ramp[0].reshape(8, 8).mean(1) / 257
    assert np.abs(row - expected)[:, 1:-1].max() <= 1 and not np.array_equal(row[:, 1:], row[:, :-1])


def test_16_bits_that_are_nearly_black_are_noted(tmp_path):
    saved(tmp_path / "a.png", of(LEVELS.astype(np.uint16) * 16))
    assert "1 images of 16 bits have no value above 4,080 of 65,535" in notes(open_source(tmp_path))
    saved(tmp_path / "b.png", of(LEVELS.astype(np.uint16) * 257))
    assert "16 bits" not in notes(open_source(tmp_path))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (LEVELS.astype(np.int32) - 9, "from -9 to 246"),
        (LEVELS.astype(np.int32) * 258, "from 0 to 65,790"),
        (LEVELS.astype(np.float32) - 1, "from -1 to 254"),
        (LEVELS.astype(np.float32) * 2, "from 0 to 510"),
        (np.where(LEVELS > 0, LEVELS, np.nan).astype(np.float32), "nan"),
        (np.where(LEVELS > 0, LEVELS, np.inf).astype(np.float32), "inf"),
    ],
)
def test_numbers_without_a_known_white_are_refused_with_their_range(tmp_path, values, reason):
    with pytest.raises(DataError, match=reason):
        open_source(saved(tmp_path / "a.tiff", of(values)))


def test_rows_are_grey_only_where_no_image_has_a_colour(tmp_path):
    for number in range(3):
        picture(number, mode="L").save(tmp_path / f"{number}.png")
    picture(3, mode="1").save(tmp_path / "3.png")
    assert open_source(tmp_path).rows.shape == (4, 20, 20)
    picture(4, mode="L").convert("RGB").save(tmp_path / "4.png")
    source = open_source(tmp_path)
    assert source.rows.shape == (5, 20, 20) and "no pixel has a colour" in notes(source)
    np.testing.assert_array_equal(open_source(tmp_path, image_size=(20, 20)).rows, source.rows)
    picture(5).save(tmp_path / "5.png")
    source = open_source(tmp_path)
    assert source.rows.shape == (6, 20, 20, 3) and "no pixel" not in notes(source)
    assert (source.rows[:5] == source.rows[:5, ..., :1]).all()


def test_grey_images_stored_in_colour_are_the_same_grey_when_they_are_opened_again(tmp_path):
    for number, ending in enumerate(("png", "jpg", "gif", "webp", "png", "jpg")):
        grey = of(rng(number).integers(0, 256, (90 + 77 * number, 501), dtype=np.uint8))
        image = grey.convert("P" if ending == "gif" else "RGB")
        image.save(tmp_path / f"{number}.{ending}", **({"lossless": True} if ending == "webp" else {}))
    source = open_source(tmp_path, image_size=16)
    assert source.rows.shape == (6, 16, 16)
    np.testing.assert_array_equal(open_source(tmp_path, image_size=(16, 16)).rows, source.rows)


def test_the_first_frame_is_taken(tmp_path):
    first, second = picture(0, mode="L"), picture(1, mode="L")
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    first.save(tmp_path / "b.tiff", save_all=True, append_images=[second])
    first.save(tmp_path / "c.png", save_all=True, append_images=[second])
    source = open_source(tmp_path, image_size=20)
    expected = np.asarray(first)[:, 2:22]
    assert all((row == expected).all() for row in source.rows)
    assert "3 of several frames or pages" in notes(source)


def test_dark_pixels_have_256_levels_and_black_and_white_ones_two(tmp_path):
    for number in range(9):
        of(rng(number).integers(0, 60, (8, 8), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    schema = prepare(open_source(tmp_path)).schema
    assert (schema.kind, schema.offset, schema.step, schema.levels) == ("binned", 0, 1, 256)
    for number in range(9):
        picture(number, (8, 8), "1").save(tmp_path / f"{number}.png")
    assert prepare(open_source(tmp_path)).schema.kind == "binary"


# -- files that cannot be read ---------------------------------------------------------------------------------------


def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def content(ending, **options):
    buffer = io.BytesIO()
    picture(size=(300, 200)).save(buffer, ending, **options)
    return buffer.getvalue()


def changed(data, place):
    return data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]


BAD = {
    "truncated.png": (content("PNG")[:-2000], "damaged: "),
    "truncated.jpg": (content("JPEG")[:-2000], "truncated"),
    "truncated.gif": (content("GIF")[:-2000], "damaged: "),
    "truncated.webp": (content("WEBP")[:-2000], ""),
    "truncated.tiff": (content("TIFF")[:-2000], ""),
    "truncated.bmp": (content("BMP")[:-2000], "truncated"),
    "head.png": (content("PNG")[:30], ""),
    "signature.png": (content("PNG")[:8], ""),
    "damaged.png": (changed(content("PNG"), 3000), "damaged: "),
    "zero.png": (b"", "zero bytes"),
    "text.png": (b"this is no picture\n" * 9, "no known kind"),
    "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "no known kind"),
    "bomb.png": (png(30_000, 30_000), "more than 89,478,485 pixels"),
    "large.png": (png(10_000, 10_000), "more than 89,478,485 pixels"),
    "absurd.png": (png(2**31 - 1, 2**31 - 1), "more than 89,478,485 pixels"),
    "flat.png": (png(0, 5), ""),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_read_is_left_out_with_its_reason(tmp_path, name):
    fill(tmp_path, 3, size=(40, 40))
    data, reason = BAD[name]
    (tmp_path / name).write_bytes(data)
    source = open_source(tmp_path)
    assert source.files["all"] == ["000.png", "001.png", "002.png"] and list(source.skipped) == [name]
    assert reason in source.skipped[name] and "\n" not in source.skipped[name]
    np.testing.assert_array_equal(source.rows[2], np.asarray(picture(2, (40, 40))))
    with pytest.raises(DataError, match=f"{name} cannot be read"):
        open_source(tmp_path / name)


def test_rows_stay_with_their_files_around_what_is_left_out(tmp_path):
    fill(tmp_path, 70, size=(9, 9))
    bad = sorted(rng(3).choice(70, 20, replace=False).tolist())
    for turn, number in enumerate(bad):
        data = [b"", content("PNG")[:-2000]][turn % 2]  # one noticed from the head, one only when it is unpacked
        (tmp_path / f"{number:03}.png").write_bytes(data)
    source = open_source(tmp_path, image_size=9)
    assert sorted(source.skipped) == [f"{number:03}.png" for number in bad] and len(source.rows) == 50
    for name, row in zip(source.files["all"], source.rows, strict=True):
        np.testing.assert_array_equal(row, np.asarray(picture(int(name[:3]), (9, 9))))


def test_what_may_not_be_read_and_what_is_no_file(tmp_path, monkeypatch):
    fill(tmp_path, 3)
    picture().save(tmp_path / "locked.png")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    opened = Image.open

    def guarded(path, **options):
        if path.name == "locked.png":
            raise PermissionError(13, "Permission denied")
        return opened(path, **options)

    monkeypatch.setattr(Image, "open", guarded)  # the tests may run as a user who may read everything
    assert open_source(tmp_path).skipped == {
        "locked.png": "may not be read by this user",
        "nowhere.png": "there is no such file; a link that leads nowhere?",
        "pipe.png": "not a regular file",
    }


def test_a_folder_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    fill(tmp_path, 3)
    fill(tmp_path / "locked", 3)
    scan = os.scandir

    def guarded(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", guarded)
    source = open_source(tmp_path)
    assert len(source.rows) == 3 and source.skipped == {"locked": "may not be read by this user"}


def test_none_readable_is_refused_with_the_first_reasons(tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.png").touch()
    with pytest.raises(DataError, match=r"none of the 5 image files .* 0\.png \(zero bytes\); 1\.png .*; and 2 more"):
        open_source(tmp_path)


def test_the_content_decides_not_the_ending(tmp_path):
    (tmp_path / "a.png").write_bytes(content("JPEG"))
    assert "modes RGB 1" in notes(open_source(tmp_path))


def test_names_of_any_bytes(tmp_path):
    with open(os.fsencode(tmp_path) + b"/b\xff\n[bold].png", "wb") as file:
        file.write(b"")
    fill(tmp_path, 9)
    splits = prepare(open_source(tmp_path))
    told = next(note for note in splits.notes if "could not be read" in note)
    assert told == r"1 file could not be read and left out: b\\xff\n[bold].png (zero bytes)"
    run = jensen.fit(tmp_path, out=tmp_path / "run", stop_after=1, **TINY)
    assert len(json.loads((run.path / "files.json").read_text())["skipped"]) == 1


def test_warnings_of_others_are_as_before(tmp_path, recwarn):
    import warnings

    before = list(warnings.filters)
    open_source(fill(tmp_path, 2))
    assert warnings.filters == before and not len(recwarn)


# -- labels ----------------------------------------------------------------------------------------------------------


def test_labels_follow_their_rows_through_the_split(tmp_path):
    for place, name in enumerate(["cat", "Dog", "eel"]):
        for number in range(15):
            (tmp_path / name / "more").mkdir(parents=True, exist_ok=True)
            pixels = rng(100 * place + number).integers(0, 256, (8, 8), dtype=np.uint8)
            pixels[0, 0] = place
            of(pixels).save(tmp_path / name / "more" / f"{number}.png")
    source = open_source(tmp_path)
    splits = prepare(source)
    assert splits.label_names == ["Dog", "cat", "eel"] and source.labels["all"].dtype == np.int64
    assert "labels from sub-folders: Dog, cat, eel" in notes(source)
    marks = ["cat", "Dog", "eel"]
    for split, rows in splits.stored.items():
        named = [splits.label_names[number] for number in splits.labels[split]]
        assert named == [marks[mark] for mark in rows[:, 0, 0]] and len(named) == len(rows) > 0
        for name, row in zip(splits.files[split], rows, strict=True):
            np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / name)), row)
    assert "; 3 labels" in jensen.run.describe_data(splits)


def test_images_beside_sub_folders_have_no_labels(tmp_path):
    fill(tmp_path / "a", 3)
    fill(tmp_path / "b", 2)
    picture(7).save(tmp_path / "x.png")
    source = open_source(tmp_path)
    assert source.labels is None and source.label_names == []
    assert "images beside the sub-folders: 1, in them: 5, so there are no labels" in notes(source)


@pytest.mark.parametrize("names", [[""], ["only"], ["only/a", "only/b"]])
def test_one_folder_is_no_label(tmp_path, names):
    for name in names:
        fill(tmp_path / name, 5)
    splits = prepare(open_source(tmp_path))
    assert splits.labels == {} and splits.label_names == [] and " labels" not in jensen.run.describe_data(splits)


def test_folders_of_splits_are_splits_and_labels_are_one_level_below(tmp_path):
    for split, count in (("train", 9), ("Test", 4)):
        for name in ("cat", "dog"):
            for number in range(count):
                (tmp_path / split / name).mkdir(parents=True, exist_ok=True)
                picture(hash_of(split, name, number)).save(tmp_path / split / name / f"{number}.png")
    splits = prepare(open_source(tmp_path))
    assert {name.split("/")[0] for name in splits.files["test"]} == {"Test"} and len(splits.files["test"]) == 8
    assert {name.split("/")[0] for split in ("train", "valid") for name in splits.files[split]} == {"train"}
    assert splits.label_names == ["cat", "dog"]
    assert [splits.label_names[i] for i in splits.labels["test"]] == ["cat"] * 4 + ["dog"] * 4
    (tmp_path / "Test").rename(tmp_path / "val")
    source = open_source(tmp_path)
    assert set(source.arrays) == {"all"} and "are no labels; all rows are split anew" in notes(source)


def hash_of(*parts):
    return zlib.crc32(repr(parts).encode())


def test_labels_of_digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    target = {image.tobytes(): label for image, label in zip(digits.images, digits.target, strict=True)}
    splits = prepare(open_source("digits"))
    assert splits.label_names == [str(number) for number in range(10)]
    for split, labels in splits.labels.items():
        assert [target[row.tobytes()] for row in splits.user_rows(split)] == labels.tolist()


def idx(values):
    return struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_labels_of_mnist_come_from_its_files_if_they_are_there(tmp_path, monkeypatch, name):
    monkeypatch.setenv("JENSEN_DATA", str(tmp_path))
    (tmp_path / name).mkdir()
    for part, count in (("train", 60), ("t10k", 20)):
        labels = rng(count).integers(0, 10, count, dtype=np.uint8)
        images = rng(count + 1).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        images[:, 0, 0] = labels
        (tmp_path / name / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / name / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    splits = prepare(open_source(name))
    assert splits.label_names[9] == {"mnist": "9", "fashion-mnist": "Ankle boot"}[name]
    for split, rows in splits.stored.items():
        assert rows[:, 0, 0].tolist() == splits.labels[split].tolist()
    (tmp_path / name / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(19, np.uint8)))
    with pytest.raises(FileFormatError, match="test labels"):
        open_source(name)
    (tmp_path / name / "t10k-labels-idx1-ubyte").unlink()
    assert open_source(name).labels is None


# -- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of colour images in two sub-folders, one file of them damaged, as the working folder's ``photos``."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("cat", 0), ("dog", 50)):
        for number in range(12):
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            image = picture(seed + number, (30 + number, 24), "L" if number == 5 else "RGB")
            image.save(tmp_path / "photos" / name / f"{number}.{'jpg' if number % 2 else 'png'}")
    (tmp_path / "photos" / "cat" / "bad.png").touch()
    return tmp_path / "photos"


@pytest.fixture
def cli(cli):
    """The command line, with the lines of its messages joined."""

    def call(*args):
        code, out, err = cli(*args)
        return code, out, " ".join(err.split())

    return call


def test_a_fit_on_a_folder_says_keeps_and_resumes(photos, cli, tmp_path):
    tiny = ("--steps", 3, "--samples", 2, "--hidden", 8, "--image-size", 12, "--json")
    code, _, err = cli("fit", "photos/", *tiny, "--out", "whole")
    assert code == 0, err
    for text in (
        "note: 24 images: 12 sizes from 30×24 to 41×24, made 12×12 in colour",
        "note: 1 file could not be read and left out: cat/bad.png (zero bytes)",
        "found photos: 12×12×3 = 432 values per row",
        "; 2 labels",
    ):
        assert text in err
    data = json.loads((tmp_path / "whole" / "data.json").read_text())
    assert data["reference"] == str(photos) and data["labels"]["names"] == ["cat", "dog"]
    assert [sum(data["labels"]["counts"][split]) for split in data["rows"]] == list(data["rows"].values())
    files = json.loads((tmp_path / "whole" / "files.json").read_text())
    assert files["skipped"] == {"cat/bad.png": "zero bytes"} and sum(map(len, files["rows"].values())) == 24
    assert cli("fit", "photos", *tiny, "--out", "part", "--stop-after", 1)[0] == 0
    os.chdir("/")
    code, _, err = cli("fit", "--resume", tmp_path / "part", "--json")
    assert code == 0, err
    assert (tmp_path / "part" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()
    assert cli("evaluate", tmp_path / "part", photos, "-k", 2)[0] == 0


def test_a_folder_that_changed_since_the_fit_is_refused(photos, tmp_path):
    run = jensen.fit("photos", out="run", stop_after=1, **TINY)
    picture(999, (30, 24)).save(photos / "cat" / "new.png")
    with pytest.raises(RunError, match=r"24 rows then, 25 now\). Put the old files back"):
        jensen.resume(run.path)
    (photos / "cat" / "new.png").rename(photos / "cat" / "0.png")
    with pytest.raises(RunError, match=r"SHA-256 differs \(an image changed, or Pillow"):
        jensen.resume(run.path)
    photos.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="no file or folder"):
        jensen.resume(run.path)


def test_labels_that_changed_since_the_fit_are_refused_where_they_play_a_part(photos, tmp_path):
    run = jensen.fit("photos", out="run", model="conditional-vae", stop_after=1, **TINY)
    old = jensen.fit("photos", out="old", model="conditional-vae", stop_after=1, **TINY)
    plain = jensen.fit("photos", out="plain", stop_after=1, **TINY)
    record = json.loads((old.path / "data.json").read_text())
    del record["labels"]["sha256"]
    (old.path / "data.json").write_text(json.dumps(record))
    (photos / "cat" / "9.jpg").rename(photos / "dog" / "-9.jpg")  # the rows keep their order
    with pytest.raises(RunError, match="have other labels"):
        jensen.resume(run.path)
    assert jensen.resume(plain.path).finished and jensen.resume(old.path).finished
    (photos / "dog" / "-9.jpg").rename(photos / "cat" / "9.jpg")
    assert jensen.resume(run.path).finished


def test_a_run_on_grey_images_in_colour_files_resumes(tmp_path):
    for number in range(9):
        picture(number, (50, 40), "L").convert("RGB").save(tmp_path / f"{number}.jpg")
    run = jensen.fit(tmp_path, out=tmp_path / "run", stop_after=1, image_size=8, **TINY)
    assert jensen.resume(run.path).finished and run.path.joinpath("model.safetensors").exists()


def test_other_images_are_made_to_the_size_and_colours_of_the_run(photos, cli, tmp_path):
    assert jensen.fit("photos", out="run", image_size=10, **TINY).finished
    (tmp_path / "new").mkdir()
    picture(1, (90, 70), "L").save(tmp_path / "new" / "b.png")
    picture(2, (70, 91), "RGBA").save(tmp_path / "new" / "a.png")
    (tmp_path / "new" / "c.png").write_bytes(b"text")
    code, out, err = cli("embed", "run", "new", "--out", "codes.npy", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["files"] == ["a.png", "b.png"] and list(said["skipped"]) == ["c.png"] and said["shape"] == [2, 2]
    assert "c.png (its content is of no known kind of image)" in err and "2 sizes from 90×70 to 70×91" in err
    model = jensen.load("run")
    rows = np.stack([decode(tmp_path / "new" / name, 10, 10, grey=False)[0] for name in ("a.png", "b.png")])
    np.testing.assert_array_equal(np.load("codes.npy"), model.embed(rows))
    assert cli("embed", "run", "new/b.png", "--out", "one.npy")[0] == 0
    np.testing.assert_array_equal(np.load("one.npy"), np.load("codes.npy")[1:])
    assert cli("reconstruct", "run", "new", "--out", "again.npy")[0] == 0
    assert np.load("again.npy").shape == (2, 10, 10, 3)
    code, out, _ = cli("embed", "run", "--out", "own.npy", "--json")
    assert json.loads(out)["files"] == json.loads((tmp_path / "run" / "files.json").read_text())["rows"]["test"]


def test_paths_in_python(photos, tmp_path, caplog):
    model = jensen.fit("photos", out="run", image_size=10, **TINY).model
    source = model.read("photos")
    assert len(source.files["all"]) == len(source.rows) == 24 and source.skipped == {"cat/bad.png": "zero bytes"}
    with caplog.at_level("WARNING", "jensen"):
        codes = model.embed(photos)
    assert "1 file could not be read and left out: cat/bad.png" in caplog.text
    np.testing.assert_array_equal(codes, model.embed(source.rows))
    np.testing.assert_array_equal(model.reconstruct("photos"), model.reconstruct(source.rows))
    np.testing.assert_array_equal(model.log_likelihood("photos", k=2), model.log_likelihood(source.rows, k=2))
    assert jensen.evaluate(model, "photos/cat/0.png", k=2).elbo.n == 1


def test_a_run_on_rows_of_numbers_takes_images_only_where_rows_are_pictures(tmp_path):
    picture(0, (30, 40)).save(tmp_path / "a.png")
    table = jensen.fit(rng().normal(size=(40, 3)), out=tmp_path / "table", **TINY).model
    with pytest.raises(DataError, match=r"rows of shape \(3,\) are none"):
        table.embed(tmp_path / "a.png")
    for rows in (rng().random((40, 6, 9)), rng().integers(0, 17, (40, 6, 9)), rng().integers(0, 2, (40, 6, 9))):
        other = jensen.fit(rows, out=tmp_path / f"{rows.dtype}-{rows.max()}", **TINY).model
        with pytest.raises(DataError, match="holds pixels from 0 to 255, and the rows of array are in other units"):
            other.embed(tmp_path / "a.png")
    grey = rng().integers(0, 256, (40, 6, 9, 1)).astype(np.uint8)
    model = jensen.fit(grey, out=tmp_path / "grey", **TINY).model
    assert model.read(tmp_path / "a.png").rows.shape == (1, 6, 9, 1) and model.embed(tmp_path / "a.png").shape == (1, 2)
    with pytest.raises(DataError, match="without a schema"):
        jensen.Fitted(model.vae).embed(str(tmp_path / "a.png"))


def test_one_image_is_no_data_to_fit(tmp_path):
    picture().save(tmp_path / "a.png")
    with pytest.raises(DataError, match="at least 3 different rows"):
        jensen.fit(tmp_path / "a.png", out=tmp_path / "run")
    with pytest.raises(DataError, match="there is no file or folder b"):
        open_source("b.png")


def test_the_number_of_threads_changes_nothing(tmp_path, monkeypatch):
    fill(tmp_path, 80, size=(40, 33))
    monkeypatch.setattr(folders, "_threads", lambda: 1)
    one = open_source(tmp_path, image_size=12)
    monkeypatch.setattr(folders, "_threads", lambda: 8)
    many = open_source(tmp_path, image_size=12)
    np.testing.assert_array_equal(one.rows, many.rows)
    assert one == one and one.files == many.files and one.notes == many.notes


def test_ctrl_c_ends_the_reading(tmp_path, monkeypatch):
    fill(tmp_path, 3)
    read = []

    def interrupted(path, *args, **options):
        read.append(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(folders, "_BATCH", 1)
    monkeypatch.setattr(folders, "look", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_source(tmp_path)


def test_pictures_show_rows_of_all_labels_in_their_colours(tmp_path):
    colours = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}
    for name, colour in colours.items():
        (tmp_path / "p" / name).mkdir(parents=True)
        for number in range(30):
            pixels = np.full((8, 8, 3), colour, np.uint8)
            pixels[0, 0] = number
            of(pixels).save(tmp_path / "p" / name / f"{number}.png")
    run = jensen.fit(tmp_path / "p", out=tmp_path / "run", stop_after=1, **TINY)
    shown = np.asarray(Image.open(run.path / "inputs.png").convert("RGB")).reshape(-1, 3)
    counts = [(shown == colour).all(1).sum() for colour in colours.values()]
    assert min(counts) > 0.2 * sum(counts) > 1000
