"""Folders, CSV files and arrays, healthy and faulty, each with its stated outcome."""

import gzip
import os
import socket
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from data import corpus
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from thalweg.data import load_dataset
from thalweg.data.digits import write_digits
from thalweg.data.samples import SPLITS, UNSPLIT, Files
from thalweg.data.sources import samples_at
from thalweg.data.sources.find_images import find_images, image_folders
from thalweg.errors import DataError, UnknownNameError, UsageError


def said(notes, *parts):
    """Whether one note holds all the parts."""
    return any(all(part in note for part in parts) for note in notes)


@pytest.fixture
def photos(tmp_path):
    return corpus.class_folders(tmp_path / "photos", {"cat": 6, "dog": 6})


class TestFolders:
    def test_a_folder_per_class(self, photos):
        found = samples_at(photos)
        assert found.names == tuple(f"{c}/{i:04}.png" for c in ("cat", "dog") for i in range(6))
        assert [found.labels.texts[code] for code in found.labels.codes] == ["cat"] * 6 + [
            "dog"
        ] * 6
        assert (found.splits == UNSPLIT).all()

    @pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
    def test_splits_with_class_folders_inside(self, tmp_path, val):
        for split in ("train", val, "test"):
            corpus.class_folders(tmp_path / split, {"cat": 2, "dog": 1})
        found = samples_at(tmp_path)
        assert {
            n.split("/")[0]: SPLITS[s] for n, s in zip(found.names, found.splits, strict=True)
        } == {
            "train": "train",
            val: "val",
            "test": "test",
        }
        assert sorted(set(found.labels.texts)) == ["cat", "dog"]

    def test_a_class_may_be_called_train(self, tmp_path):
        found = samples_at(corpus.class_folders(tmp_path, {"train": 2, "bus": 2, "test": 2}))
        assert set(found.labels.texts) == {"train", "bus", "test"}
        assert (found.splits == UNSPLIT).all()

    def test_images_may_lie_deep(self, photos):
        corpus.write(photos / "cat" / "a" / "b" / "c.png", 1)
        assert "cat/a/b/c.png" in samples_at(photos).names

    def test_suffixes_do_not_decide(self, photos):
        corpus.write(photos / "cat" / "no suffix", 1)
        corpus.write(photos / "cat" / "UPPER.JPEG", 2, format_="JPEG")
        (photos / "cat" / "readme.txt").write_text("about cats")
        found = samples_at(photos)
        assert {"cat/no suffix", "cat/UPPER.JPEG"} <= set(found.names)
        assert said(found.notes, "1 skipped, not images", "cat/readme.txt")

    def test_unread_formats_are_quarantined_with_advice(self, photos):
        (photos / "cat" / "a.heic").write_bytes(corpus.UNREADABLE["heic"][0])
        found = load_dataset(photos)
        assert [q.name for q in found.quarantined] == ["cat/a.heic"]
        assert "HEIC" in found.quarantined[0].reason

    @pytest.mark.parametrize(
        "name",
        [
            "smörgås.png",
            "猫.png",
            "🐈‍⬛.png",
            unicodedata.normalize("NFD", "é.png"),
            unicodedata.normalize("NFC", "é.png"),
            "-rf.png",
            " spaces .png",
            "quo'te\".png",
            "x" * 251 + ".png",
            "two\nlines.png",
            "\x1b[31mred.png",
            "%s{0}\\.png",
        ],
    )
    def test_any_name_works_and_is_shown_on_one_line(self, photos, name):
        corpus.write(photos / "cat" / name, 77)
        found = load_dataset(photos)
        assert not found.quarantined
        assert found.facts.counts["train"] + found.facts.counts["val"] == 13
        assert all(shown.isprintable() for shown in found.names)

    def test_names_that_are_no_utf8_work(self, photos):
        raw = os.fsencode(photos / "cat") + b"/caf\xe9.png"
        Path(os.fsdecode(raw)).write_bytes(corpus.encoded(corpus.picture(5)))
        found = load_dataset(photos)
        assert not found.quarantined
        assert "cat/caf\\udce9.png" in found.names
        "".join(found.names).encode()

    def test_paths_beyond_260_characters_work(self, photos):
        deep = photos / "cat" / "/".join(["d" * 60] * 6)
        corpus.write(deep / "a.png", 5)
        assert not load_dataset(photos).quarantined

    def test_links_pipes_and_sockets_end_without_a_hang(self, photos):
        (photos / "cat" / "loop").symlink_to(photos / "cat")
        (photos / "cat" / "self").symlink_to("self")
        (photos / "cat" / "nowhere.png").symlink_to("gone.png")
        (photos / "cat" / "linked.png").symlink_to(photos / "dog" / "0000.png")
        os.mkfifo(photos / "cat" / "pipe.png")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(photos / "dog" / "s.png"))
            found = samples_at(photos)
        assert len(found.names) == 13
        assert "cat/linked.png" in found.names
        assert said(found.notes, "1 skipped, links back")
        assert said(found.notes, "2 skipped, links that lead nowhere")
        assert said(found.notes, "2 skipped, pipes, sockets and devices")

    def test_hidden_and_system_files_are_counted(self, photos):
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0000.png"):
            (photos / "cat" / name).write_bytes(b"x")
        corpus.write(photos / "__MACOSX" / "cat" / "0000.png")
        corpus.write(photos / ".cache" / "a.png")
        found = samples_at(photos)
        assert len(found.names) == 12
        assert said(found.notes, "6 skipped, hidden and system files")

    def test_an_empty_class_folder_is_left_out_and_said(self, photos):
        (photos / "bird").mkdir()
        found = load_dataset(photos)
        assert found.class_names == ("cat", "dog")
        assert said(found.notes, "1 skipped, class folders without images", "bird")

    def test_loose_images_and_odd_folders_are_said(self, photos, tmp_path):
        corpus.write(photos / "stray.png")
        assert said(samples_at(photos).notes, "images beside the class folders", "stray.png")
        corpus.class_folders(tmp_path / "split" / "train", {"a": 1, "b": 1})
        corpus.class_folders(tmp_path / "split", {"models": 1})
        assert said(samples_at(tmp_path / "split").notes, "folders beside train", "models")

    def test_class_names_that_differ_by_case_or_space(self, tmp_path):
        root = corpus.class_folders(tmp_path, {"cat": 3, "Cat": 3, "cat ": 3, "dog": 3})
        found = load_dataset(root)
        assert found.class_names == ("Cat", "cat", "dog")
        assert said(found.notes, "'cat', 'cat ' are taken as one class")
        assert said(found.notes, "'Cat' and 'cat' differ in case only")

    def test_numbered_classes_are_in_the_order_of_numbers(self, tmp_path):
        found = load_dataset(corpus.class_folders(tmp_path, {str(n): 2 for n in (10, 9, 2, 100)}))
        assert found.class_names == ("2", "9", "10", "100")
        assert found.facts.task == "classification"

    @pytest.mark.slow
    def test_many_classes(self, tmp_path):
        root = tmp_path / "many"
        for number in range(1000):
            for copy in range(2):
                corpus.write(root / f"c{number}" / f"{copy}.png", 2 * number + copy, size=8)
        found = load_dataset(root)
        assert found.facts.num_classes == 1000
        assert found.facts.counts["val"] == 1000  # one of two, in every class

    def test_one_class_is_refused_with_advice(self, tmp_path):
        with pytest.raises(DataError, match="one class only") as caught:
            load_dataset(corpus.class_folders(tmp_path, {"cat": 5}))
        assert caught.value.exit_code == 3
        assert "two classes" in caught.value.fix

    def test_a_folder_of_loose_images_is_refused_with_advice(self, tmp_path):
        corpus.write(tmp_path / "a.png")
        with pytest.raises(DataError, match="no class folders") as caught:
            samples_at(tmp_path)
        assert "1 × .png" in caught.value.seen

    def test_a_folder_with_a_table_points_to_it(self, tmp_path):
        (tmp_path / "labels.csv").write_text("path,label\n")
        with pytest.raises(DataError, match=r"thalweg train .*labels\.csv"):
            samples_at(tmp_path)

    def test_an_empty_folder_a_wrong_path_and_a_strange_file(self, tmp_path):
        with pytest.raises(DataError, match="nothing"):
            samples_at(tmp_path)
        (tmp_path / "photos").mkdir()
        with pytest.raises(DataError, match="close to it: photos"):
            samples_at(tmp_path / "photo")
        (tmp_path / "a.docx").write_text("")
        with pytest.raises(DataError, match="is not recognised"):
            samples_at(tmp_path / "a.docx")
        with pytest.raises(DataError, match="cannot be read"):
            samples_at(tmp_path / ("x" * 5000))


class TestQuarantine:
    def test_bad_files_are_set_aside_with_name_and_reason(self, tmp_path):
        root = corpus.class_folders(tmp_path, {"cat": 20, "dog": 20})
        (root / "cat" / "empty.png").write_bytes(b"")
        (root / "dog" / "page.jpg").write_bytes(corpus.UNREADABLE["html"][0])
        found = load_dataset(root)
        assert dict(found.quarantined) == {
            "cat/empty.png": "empty file",
            "dog/page.jpg": "an HTML page, not an image",
        }
        used = np.concatenate(list(found.indices.values()))
        assert len(used) == 40
        assert not {"cat/empty.png", "dog/page.jpg"} & {found.names[row] for row in used}

    def test_every_kind_of_bad_file_at_once(self, tmp_path):
        count = 4 * len(corpus.UNREADABLE)
        root = corpus.class_folders(tmp_path, {"cat": count // 2, "dog": count // 2 + 8}, size=8)
        for index, (data, _) in enumerate(corpus.UNREADABLE.values()):
            (root / "cat" / f"bad{index}.png").write_bytes(data)
        found = load_dataset(root)
        assert len(found.quarantined) == len(corpus.UNREADABLE)
        reasons = dict(found.quarantined)
        for index, (_, reason) in enumerate(corpus.UNREADABLE.values()):
            assert reason in reasons[f"cat/bad{index}.png"]

    def test_more_than_a_fifth_ends_the_run(self, photos):
        for index in range(4):
            (photos / "cat" / f"bad{index}.png").write_bytes(b"")
        with pytest.raises(DataError, match="4 of 16 samples cannot be used: more than 20%") as e:
            load_dataset(photos)
        assert "4 × empty file" in e.value.seen
        assert e.value.exit_code == 3

    def test_an_emptied_class_ends_the_run(self, tmp_path):
        root = corpus.class_folders(tmp_path, {"cat": 20, "dog": 20})
        (root / "owl").mkdir()
        (root / "owl" / "a.png").write_bytes(corpus.cut("PNG"))
        with pytest.raises(DataError, match="no sample of class owl"):
            load_dataset(root)


class TestManifest:
    def write(self, root, text, name="list.csv", encoding="utf-8"):
        path = root / name
        path.write_bytes(text.encode(encoding))
        return path

    @pytest.fixture
    def images(self, tmp_path):
        for index in range(12):
            corpus.write(tmp_path / "img" / f"{index}.png", index)
        return tmp_path

    def rows(self, sep=",", split=False):
        words = ["train"] * 8 + ["valid"] * 2 + ["test"] * 2
        return "\n".join(
            sep.join([f"img/{i}.png", "cat" if i % 2 else "dog", *([words[i]] if split else [])])
            for i in range(12)
        )

    @pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_delimiters_and_encodings(self, images, sep, encoding):
        text = f"path{sep}label\n{self.rows(sep)}\n"
        found = samples_at(self.write(images, text, encoding=encoding))
        assert found.inputs == Files(
            images / "list.csv", images, tuple(f"img/{i}.png" for i in range(12))
        )
        assert found.labels.texts == ("dog", "cat")

    def test_given_splits(self, images):
        found = load_dataset(self.write(images, f"Path,Label,Split\n{self.rows(split=True)}\n"))
        assert found.facts.counts == {"train": 8, "val": 2, "test": 2}

    def test_other_names_no_header_and_quotes(self, images):
        text = '"image","note","class"\n"img/0.png","a, ""b""\nc","cat"\nimg/1.png,,dog\n'
        found = samples_at(self.write(images, text))
        assert found.names == ("img/0.png", "img/1.png")
        assert samples_at(self.write(images, self.rows())).labels.texts == ("dog", "cat")
        odd = samples_at(self.write(images, f"foto,tier\n{self.rows()}"))
        assert odd.label_place == "column 'tier'"

    def test_a_manifest_of_numbers_is_regression(self, images):
        rows = "".join(f"img/{i}.png,{i / 7}\n" for i in range(12))
        found = load_dataset(self.write(images, "path,age\n" + rows))
        assert found.facts.task == "regression"
        assert found.facts.modality == "image"
        assert found.targets.dtype == np.float32

    def test_no_column_of_labels(self, images):
        with pytest.raises(DataError, match="no column of labels") as caught:
            samples_at(self.write(images, "path,width,height\nimg/0.png,1,2\n"))
        assert "'width'" in caught.value.seen

    def test_rows_that_cannot_be_used_are_set_aside(self, images):
        good = "".join(f"img/{i}.png,{'cat' if i % 2 else 'dog'}\n" for i in range(12)) * 1
        many = "".join(f"./img/../img/{i}.png,x{i % 2}\n" for i in range(12))
        text = f"path,label\n{good}{many}img/0.png,\nimg/1.png,NaN\nimg/2.png\n,cat\n"
        found = samples_at(self.write(images, text))
        assert [q.reason for q in found.quarantined] == [
            "empty label",
            "empty label",
            "1 cells where the header has 2",
            "empty path",
        ]
        assert found.quarantined[0].name == "row 26 img/0.png"

    @pytest.mark.parametrize(
        "path", ["../out.png", "/etc/passwd", "img/../../out.png", "..\\out.png", "a\0b.png"]
    )
    def test_paths_that_leave_the_folder_are_refused(self, images, path):
        corpus.write(images.parent / "out.png")
        text = f'path,label\n{self.rows()}\n"{path}",cat\n'
        found = samples_at(self.write(images, text))
        assert len(found.names) == 12
        assert "leaves" in found.quarantined[0].reason or "NUL" in found.quarantined[0].reason

    def test_absolute_paths_inside_are_taken_and_backslashes_understood(self, images):
        text = f"path,label\n{images}/img/0.png,cat\nimg\\1.png,dog\n"
        assert samples_at(self.write(images, text)).names == ("img/0.png", "img/1.png")

    def test_missing_files_are_quarantined(self, images):
        found = load_dataset(self.write(images, f"path,label\n{self.rows()}\nimg/99.png,cat\n"))
        assert found.quarantined == (("img/99.png", "No such file or directory"),)

    def test_repeated_rows_are_left_out_and_conflicts_said(self, images):
        text = f"path,label\n{self.rows()}\nimg/0.png,dog\nimg/0.png,cat\n"
        found = load_dataset(self.write(images, text))
        assert said(found.notes, "1 rows repeat an earlier one")
        assert said(found.notes, "1 content bears more than one label", "img/0.png = img/0.png")

    def test_an_unknown_split_is_refused(self, images):
        with pytest.raises(DataError, match="names an unknown split") as caught:
            samples_at(self.write(images, "path,label,split\nimg/0.png,cat,holdout\n"))
        assert "line 2: 'holdout'" in caught.value.seen

    def test_labels_as_floats_are_classes(self, images):
        rows = "".join(f"img/{i}.png,{i % 3}.0\n" for i in range(12))
        found = load_dataset(self.write(images, "path,label\n" + rows))
        assert found.class_names == ("0", "1", "2")
        assert found.facts.task == "classification"

    def test_mixed_labels_are_classes_and_said(self, images):
        rows = "".join(f"img/{i}.png,{['1', '2', 'other'][i % 3]}\n" for i in range(12))
        found = load_dataset(self.write(images, "path,label\n" + rows))
        assert found.class_names == ("1", "2", "other")
        assert said(found.notes, "2 labels are numbers among words")

    def test_two_manifests_of_one_folder_do_not_share_pixels(self, images):
        first = load_dataset(self.write(images, "path,label\n" + self.rows()))
        turned = "\n".join(reversed(self.rows().split("\n")))
        second = load_dataset(self.write(images, "path,label\n" + turned, name="other.csv"))
        assert (np.asarray(first.inputs) == np.asarray(second.inputs)[::-1]).all()

    def test_names_in_another_encoding_are_found(self, images):
        (images / "img" / os.fsdecode(b"caf\xe9.png")).write_bytes(
            corpus.encoded(corpus.picture(50))
        )
        path = images / "list.csv"
        path.write_bytes(f"path,label\n{self.rows()}\n".encode() + b"img/caf\xe9.png,cat\n")
        assert not load_dataset(path).quarantined

    @pytest.mark.parametrize("text", ["", "\n\n", "path,label\n", "path,label\n,\n"])
    def test_nothing_in_it(self, images, text):
        with pytest.raises(DataError):
            samples_at(self.write(images, text))


class TestTable:
    def write(self, root, text, name="table.csv"):
        path = root / name
        path.write_text(text)
        return path

    def numbers(self, count=60, columns=3, seed=0):
        rng = np.random.default_rng(seed)
        return rng.normal(size=(count, columns)).round(3)

    def table(self, targets, header="a,b,c,target"):
        features = self.numbers(len(targets))
        rows = [",".join(map(str, [*r, t])) for r, t in zip(features, targets, strict=True)]
        return header + "\n" + "\n".join(rows) + "\n"

    def test_regression(self, tmp_path):
        values = np.linspace(-1, 1, 60)
        found = load_dataset(self.write(tmp_path, self.table(values)))
        assert (found.facts.task, found.facts.input_shape) == ("regression", (3,))
        np.testing.assert_allclose(found.inputs, self.numbers(), rtol=1e-6)
        np.testing.assert_allclose(found.targets, values, rtol=1e-6)
        train = values[found.indices["train"]]
        assert found.facts.target_mean == pytest.approx(train.mean(), rel=1e-5)
        assert found.facts.target_std == pytest.approx(train.std(), rel=1e-5)
        assert said(found.notes, "task: regression", "'target' holds 60 distinct numbers")
        assert found.names[0] == "row 2"

    def test_classes_of_words_and_of_numbers(self, tmp_path):
        words = load_dataset(self.write(tmp_path, self.table(["no", "yes"] * 30)))
        assert words.class_names == ("no", "yes")
        numbers = load_dataset(self.write(tmp_path, self.table([3, 1, 2] * 20)))
        assert numbers.class_names == ("1", "2", "3")
        assert said(numbers.notes, "task: classification", "3 whole numbers")

    def test_many_whole_numbers_are_a_measurement(self, tmp_path):
        found = load_dataset(self.write(tmp_path, self.table(range(60))))
        assert found.facts.task == "regression"

    def test_the_target_is_the_last_column_by_default(self, tmp_path):
        found = load_dataset(self.write(tmp_path, self.table(range(60), header="a,b,c,d")))
        assert said(found.notes, "target: the last column, 'd'")

    def test_holes_words_and_constant_columns_are_counted(self, tmp_path):
        rows = [[*row, 5, "x", i / 3] for i, row in enumerate(self.numbers().tolist())]
        rows[3][0], rows[4][0], rows[5][1], rows[6][1] = "", "NaN", "oops", "inf"
        text = "a,b,c,five,word,target\n" + "\n".join(",".join(map(str, r)) for r in rows)
        found = load_dataset(self.write(tmp_path, text))
        inputs = found.preprocessing.to_inputs(torch.from_numpy(found.inputs))
        assert inputs.isfinite().all()
        assert inputs[3, 0] == 0  # the mean
        assert said(found.notes, "4 missing numbers in 2 of 4 features")
        assert said(found.notes, "1 cells of 'b' are no numbers")
        assert said(found.notes, "one text in all rows are left out: 'word'")
        assert said(found.notes, "1 features never vary")
        assert found.preprocessing.std[3] == 1.0

    def test_the_mean_is_of_the_training_split_only(self, tmp_path):
        found = load_dataset(self.write(tmp_path, self.table(range(60))))
        train = self.numbers()[found.indices["train"]]
        np.testing.assert_allclose(found.preprocessing.mean, train.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(found.preprocessing.std, train.std(axis=0), rtol=1e-5)

    def test_rows_without_target_or_of_another_width(self, tmp_path):
        text = self.table(np.linspace(0, 1, 60)) + "1,2,3,\n1,2\n1,2,3,4,5\n"
        found = load_dataset(self.write(tmp_path, text))
        assert [q.reason for q in found.quarantined] == [
            "no target",
            "2 cells where the header has 4",
            "5 cells where the header has 4",
        ]
        assert found.quarantined[0].name == "row 62"

    def test_decimal_commas_and_no_header(self, tmp_path):
        text = "".join(f"{i},5;{2 * i},25;{i % 3}\n" for i in range(30))
        found = load_dataset(self.write(tmp_path, text))
        assert found.inputs[1].tolist() == [1.5, 2.25]
        assert said(found.notes, "no header")

    def test_a_compressed_table(self, tmp_path):
        path = tmp_path / "t.csv.gz"
        path.write_bytes(gzip.compress(self.table(range(60)).encode()))
        assert load_dataset(path).facts.input_shape == (3,)
        path.write_bytes(gzip.compress(self.table(range(60)).encode())[:-20])
        with pytest.raises(DataError):
            load_dataset(path)

    def test_a_split_column(self, tmp_path):
        words = ["train"] * 40 + ["val"] * 10 + ["test"] * 10
        rows = self.table([f"{i / 3},{w}" for i, w in enumerate(words)], "a,b,c,target,split")
        assert load_dataset(self.write(tmp_path, rows)).facts.counts == {
            "train": 40,
            "val": 10,
            "test": 10,
        }

    def test_a_target_that_never_varies_is_refused(self, tmp_path):
        with pytest.raises(DataError, match="nothing to learn"):
            load_dataset(self.write(tmp_path, self.table([0.5] * 60)))
        with pytest.raises(DataError, match="one class only"):
            load_dataset(self.write(tmp_path, self.table(["a"] * 60)))

    def test_no_numbers_at_all(self, tmp_path):
        rows = "".join(f"name,{'ab'[row % 2]}\n" for row in range(30))
        with pytest.raises(DataError, match="no column to learn from"):
            load_dataset(self.write(tmp_path, "name,label\n" + rows))

    @pytest.mark.parametrize("text", ["", "a\n1\n2\n", "\x00\x01\x02", '"unclosed\n1,2\n'])
    def test_no_table_at_all(self, tmp_path, text):
        with pytest.raises(DataError):
            load_dataset(self.write(tmp_path, text))


class TestAnyText:
    @settings(max_examples=25, deadline=None)
    @given(st.text(st.sampled_from("ab1.5,;\t\n\"' \r\x00é-/\\"), max_size=80), st.booleans())
    def test_it_is_read_or_refused_and_never_a_crash(self, tmp_path_factory, text, listed):
        path = tmp_path_factory.getbasetemp() / "any.csv"
        path.write_bytes((("path,label\n" if listed else "") + text).encode())
        try:
            found = samples_at(path)
        except DataError:
            return
        assert len(found.names) == len(found.splits) > 0


class TestArrays:
    def save(self, root, **arrays):
        path = root / "data.npz"
        np.savez(path, **arrays)
        return path

    IMAGES = np.stack([corpus.pixels(i, size=12) for i in range(40)])
    CLASSES = np.arange(40) % 4

    @pytest.mark.parametrize(
        ("x", "y"), [("x", "y"), ("images", "labels"), ("inputs", "targets"), ("X", "target")]
    )
    def test_unsplit_names(self, tmp_path, x, y):
        found = load_dataset(self.save(tmp_path, **{x: self.IMAGES, y: self.CLASSES}))
        assert (np.asarray(found.inputs) == self.IMAGES).all()
        assert found.facts.counts == {"train": 32, "val": 8, "test": 0}
        assert found.names[7] == "row 7"

    @pytest.mark.parametrize("pattern", ["{part}_{split}", "{split}_{part}"])
    def test_split_names(self, tmp_path, pattern):
        arrays = {}
        for split, rows in (("train", 24), ("val", 8), ("test", 8)):
            arrays[pattern.format(part="x", split=split)] = self.IMAGES[:rows]
            arrays[pattern.format(part="y", split=split)] = self.CLASSES[:rows]
        found = load_dataset(self.save(tmp_path, **arrays))
        assert found.facts.counts == {"train": 24, "val": 8, "test": 8}
        assert said(found.notes, "contents stand in more than one split")

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (lambda x: x.transpose(0, 3, 1, 2), lambda x: x),
            (lambda x: x[..., :1], lambda x: x[..., :1]),
            (lambda x: x[..., 0], lambda x: x[..., :1]),
            (lambda x: x / 255, lambda x: x),
            (lambda x: (x / 255).astype(np.float32), lambda x: x),
            (lambda x: x.astype(np.uint16) * 257, lambda x: x),
            (lambda x: x.astype(np.int64), lambda x: x),
            (lambda x: x > 127, lambda x: (x > 127) * 255),
        ],
        ids=["first", "one", "flat", "unit", "unit32", "deep", "int", "bool"],
    )
    def test_layouts_and_types_of_images(self, tmp_path, change, expected):
        found = load_dataset(self.save(tmp_path, x=change(self.IMAGES), y=self.CLASSES))
        assert found.inputs.dtype == np.uint8
        assert (np.asarray(found.inputs) == expected(self.IMAGES)).all()

    def test_transparency_is_laid_over_white(self, tmp_path):
        clear = np.dstack([self.IMAGES[0], np.zeros((12, 12), np.uint8)])[None].repeat(40, axis=0)
        clear[1:, ..., 3] = 255
        clear[1:, ..., :3] = self.IMAGES[1:]
        found = load_dataset(self.save(tmp_path, x=clear, y=self.CLASSES))
        assert (np.asarray(found.inputs)[0] == 255).all()
        assert (np.asarray(found.inputs)[1:] == self.IMAGES[1:]).all()

    def test_another_size_is_fitted(self, tmp_path):
        path = self.save(tmp_path, x=self.IMAGES[:, :, :10], y=self.CLASSES)
        assert load_dataset(path).inputs.shape == (40, 10, 10, 3)
        assert load_dataset(path, image_size=20).inputs.shape == (40, 20, 20, 3)

    def test_vectors_values_and_words(self, tmp_path):
        vectors = np.random.default_rng(0).normal(size=(40, 5))
        found = load_dataset(self.save(tmp_path, x=vectors, y=vectors.sum(axis=1)))
        assert (found.facts.modality, found.facts.task) == ("vector", "regression")
        words = load_dataset(self.save(tmp_path, x=vectors, y=np.array(["b", "a"] * 20)))
        assert words.class_names == ("a", "b")
        assert words.targets[0] == 1

    def test_one_hot_and_column_targets(self, tmp_path):
        vectors = np.random.default_rng(0).normal(size=(40, 5))
        hot = load_dataset(self.save(tmp_path, x=vectors, y=np.eye(4)[self.CLASSES]))
        assert (hot.targets == self.CLASSES).all()
        column = load_dataset(self.save(tmp_path, x=vectors, y=self.CLASSES[:, None]))
        assert (column.targets == self.CLASSES).all()

    def test_rows_that_are_not_finite_are_set_aside(self, tmp_path):
        images = self.IMAGES / 255
        images[3, 2, 2, 1] = np.nan
        found = load_dataset(self.save(tmp_path, x=images, y=self.CLASSES))
        assert [q.name for q in found.quarantined] == ["row 3"]
        assert found.names[3] == "row 4"

    def test_arrays_on_their_own_stay_on_disk(self, tmp_path):
        np.save(tmp_path / "x.npy", self.IMAGES)
        np.save(tmp_path / "y.npy", self.CLASSES)
        found = load_dataset(tmp_path / "x.npy")
        assert isinstance(found.inputs, np.memmap)
        assert found.facts.num_classes == 4

    def test_pickles_are_refused_and_not_run(self, tmp_path):
        canary = tmp_path / "canary"
        evil = np.array([_Evil(canary)], dtype=object)
        np.savez(tmp_path / "data.npz", x=evil, y=np.zeros(1))
        with pytest.raises(DataError, match="cannot be read as arrays"):
            load_dataset(tmp_path / "data.npz")
        assert not canary.exists()

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({"a": np.zeros((3, 2)), "b": np.zeros(3)}, "no inputs with targets"),
            ({"x": np.zeros((3, 2)), "y": np.zeros(4)}, "differ in length"),
            ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, "empty"),
            ({"x": np.zeros((3, 2)), "y": np.full((3, 2), 2)}, "more than one target"),
            ({"x": np.zeros((3, 2)), "y": np.zeros((3, 2))}, "no sample bears a label"),
            ({"x": np.zeros((3, 2, 2, 7)), "y": np.zeros(3)}, "neither vectors nor images"),
            ({"x": np.array(["a", "b"]), "y": np.zeros(2)}, "no numbers"),
            ({"x": np.zeros((9, 2)), "y": np.zeros(9)}, "one class only"),
        ],
    )
    def test_what_cannot_be_used_is_refused(self, tmp_path, arrays, words):
        with pytest.raises(DataError, match=words):
            load_dataset(self.save(tmp_path, **arrays))

    @pytest.mark.parametrize("name", ["bad.npz", "bad.npy"])
    def test_damaged_files_are_refused(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"PK\x03\x04 or not")
        with pytest.raises(DataError, match="cannot be read as arrays"):
            load_dataset(tmp_path / name)


class _Evil:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


class TestDigits:
    def test_built_in_and_written_out_are_the_same_pictures(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        built_in = load_dataset("digits")
        write_digits(tmp_path / "out")
        written = load_dataset(tmp_path / "out")
        assert built_in.inputs.shape == written.inputs.shape == (1797, 8, 8, 1)
        assert built_in.class_names == written.class_names == tuple("0123456789")
        order = [int(name.split("/")[1][:-4]) for name in written.names]
        assert (np.asarray(written.inputs) == built_in.inputs[order]).all()
        assert (written.targets == built_in.targets[order]).all()

    def test_a_folder_of_that_name_comes_first(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        corpus.class_folders(tmp_path / "digits", {"a": 3, "b": 3})
        assert load_dataset("digits").class_names == ("a", "b")

    def test_without_scikit_learn_the_extra_is_named(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
        with pytest.raises(DataError, match=r"thalweg\[demo\]"):
            load_dataset("digits")


class TestOptions:
    @pytest.mark.parametrize(
        "options", [{"image_size": 3}, {"image_size": 9999}, {"image_size": -1}]
    )
    def test_sizes(self, photos, options):
        with pytest.raises(UsageError):
            load_dataset(photos, **options)

    @pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
    def test_fractions(self, photos, fraction):
        with pytest.raises(UsageError):
            load_dataset(photos, val_fraction=fraction)


class TestSizes:
    @pytest.mark.parametrize(
        ("original", "chosen"),
        [((8, 8), 8), ((28, 28), 28), ((32, 48), 32), ((64, 64), 64), ((97, 130), 96)],
    )
    def test_small_images_keep_their_size(self, tmp_path, original, chosen):
        for name in "abcd":
            image = Image.fromarray(np.full((*original, 3), (ord(name), 0, 9), np.uint8))
            for copy in range(3):
                image.putpixel((0, copy), (copy, 0, 0))
                path = tmp_path / name / f"{copy}.png"
                path.parent.mkdir(exist_ok=True)
                image.save(path)
        found = load_dataset(tmp_path)
        assert found.inputs.shape[1:] == (chosen, chosen, 3)
        assert found.facts.original_size == original
        assert said(found.notes, f"image size: {chosen} px", "own size")

    def test_photographs_are_brought_to_128_and_it_says_why(self, tmp_path):
        root = corpus.class_folders(tmp_path, {"a": 3, "b": 3}, size=300)
        found = load_dataset(root)
        assert found.inputs.shape[1] == 128
        assert said(found.notes, "image size: 128 px", "33% of the work of 224 px")
        assert said(load_dataset(root, image_size=48).notes, "image size: 48 px (as asked)")

    def test_grey_sets_have_one_channel_whatever_their_mode(self, tmp_path):
        root = corpus.class_folders(tmp_path, {"a": 4, "b": 4}, mode="L")
        for index in range(4):
            grey = corpus.picture(300 + index).convert("L")
            grey.convert("RGB").save(root / "a" / f"rgb{index}.png")
            grey.convert("1").save(root / "b" / f"bit{index}.png")
        found = load_dataset(root)
        assert found.inputs.shape[-1] == 1
        assert found.facts.input_shape == (1, 16, 16)
        assert said(found.notes, "all images are grey")

    def test_one_late_colour_makes_it_three(self, tmp_path):
        root = corpus.class_folders(tmp_path, {"a": 60, "b": 60}, mode="L", size=8)
        before = load_dataset(root)
        corpus.write(root / "a" / "0001x.png", 5, size=8)
        found = load_dataset(root)
        assert (before.inputs.shape[-1], found.inputs.shape[-1]) == (1, 3)
        row = found.names.index("a/0000.png")
        assert (found.inputs[row] == before.inputs[before.names.index("a/0000.png")]).all()


class TestTarget:
    """Which column of a table is predicted."""

    TABLE = "size,price,place\n" + "".join(f"{i},{3.5 * i},{'ab'[i % 2]}\n" for i in range(40))

    def test_a_named_column_wins_over_the_last(self, tmp_path):
        (tmp_path / "t.csv").write_text(self.TABLE)
        named = samples_at(tmp_path / "t.csv", target="price")
        assert named.label_place == "column 'price'"
        assert named.features == ("size", "place")
        (tmp_path / "u.csv").write_text(self.TABLE.replace("price", "weight"))
        by_default = samples_at(tmp_path / "u.csv")
        assert by_default.label_place == "column 'place'"
        assert said(by_default.notes, "the last column", "--target NAME")

    def test_a_doubtful_last_column_is_asked_for(self, tmp_path):
        (tmp_path / "t.csv").write_text(self.TABLE)
        with pytest.raises(DataError, match=r"'price' may be meant.*\n.*such as 'price', 'place'"):
            samples_at(tmp_path / "t.csv")

    def test_a_named_column_of_a_manifest(self, tmp_path):
        corpus.class_folders(tmp_path, {"cat": 2, "dog": 2})
        (tmp_path / "m.csv").write_text(
            "path,label,mood\ncat/0000.png,a,good\ndog/0000.png,b,bad\n"
        )
        assert samples_at(tmp_path / "m.csv", target="mood").labels.texts == ("good", "bad")

    def test_an_unknown_column_is_refused_with_the_nearest(self, tmp_path):
        (tmp_path / "t.csv").write_text(self.TABLE)
        with pytest.raises(UnknownNameError, match="did you mean price"):
            samples_at(tmp_path / "t.csv", target="prize")

    def test_free_text_is_no_target_that_anyone_meant(self, tmp_path):
        rows = "".join(f"{i},{i % 3},remark number {i}\n" for i in range(40))
        (tmp_path / "t.csv").write_text("size,grade,remark\n" + rows)
        with pytest.raises(DataError, match=r"free text.*\n.*--target NAME, such as 'size'"):
            samples_at(tmp_path / "t.csv")
        assert samples_at(tmp_path / "t.csv", target="grade").label_place == "column 'grade'"

    def test_what_is_no_table_has_no_columns(self, tmp_path):
        photos = corpus.class_folders(tmp_path, {"cat": 2, "dog": 2})
        with pytest.raises(DataError, match="no table"):
            samples_at(photos, target="label")


def test_a_plug_in_may_read_folders(tmp_path, monkeypatch):
    (tmp_path / "a.points").write_text("1 2")
    samples = samples_at(Path("digits"))

    def points(path):
        return samples if any(path.glob("*.points")) else None

    plug_in = SimpleNamespace(load=lambda: points)
    monkeypatch.setattr("thalweg.registry.entry_points", lambda group: [plug_in])
    assert samples_at(tmp_path) is samples


def test_runs_beside_a_table_are_not_searched_for_its_images(tmp_path):
    for folder in ("runs/first", "photos/cats"):
        (tmp_path / folder / "inner").mkdir(parents=True)
        (tmp_path / folder / "7.png").write_bytes(b"")
    (tmp_path / "runs/first/run.db").write_bytes(b"")
    assert list(image_folders(tmp_path)) == ["photos", "runs", "photos/cats"]
    assert find_images(tmp_path, ["7"]).folder == "photos/cats"
