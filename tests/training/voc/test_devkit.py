import numpy as np
import pytest

from fd_keras.training.voc import annotation, check_dataset, dataset


def test_classes_are_those_of_the_devkit():
    assert len(dataset.CLASSES) == 20
    assert list(dataset.CLASSES) == sorted(dataset.CLASSES)


def test_annotations_are_in_the_order_of_the_list(devkit, voc_object):
    devkit.add("b", voc_object("cat", 1, 1, 50, 40), voc_object("dog", 11.5, 2, 20, 30, difficult=1))
    devkit.add("a", voc_object("person", 3, 4, 5, 6, difficult=None), width=30, height=20)
    devkit.add("c")
    devkit.split("train", "b", "a", "c")
    b, a, c = dataset.open_split(str(devkit), "train")
    assert (b.id, b.path, b.height, b.width) == ("b", str(devkit.image("b")), 40, 50)
    assert b.boxes.tolist() == [[0, 0, 49, 39], [10.5, 1, 19, 29]]
    assert b.boxes.dtype == np.float32
    assert b.labels.tolist() == [7, 11]
    assert b.labels.dtype == np.int64
    assert b.difficult.tolist() == [False, True]
    assert b.difficult.dtype == bool
    assert (a.id, a.height, a.width, a.difficult.tolist()) == ("a", 20, 30, [False])
    assert c.boxes.shape == (0, 4)
    assert c.boxes.dtype == np.float32
    assert c.labels.dtype == np.int64


def _no_photo(devkit, voc_object):
    devkit.image("a").write_bytes(b"GIF")


def _other_size(devkit, voc_object):
    devkit.add("a", voc_object("cat", 1, 1, 9, 9), size="<size><width>40</width><height>50</height></size>")


def _edited(old: str, new: str, before: str = ""):
    def edit(devkit, voc_object):
        xml = devkit.xml("a")
        xml.write_text(before + xml.read_text().replace(old, new))

    return edit


ENTITY = '<!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;">]>'
# What breaks image a, and how the error begins.
BROKEN = {
    "no xml": (lambda devkit, voc_object: devkit.xml("a").unlink(), "{xml}: no such annotation"),
    "no image": (lambda devkit, voc_object: devkit.image("a").unlink(), "{image}: no such image"),
    "no photo": (_no_photo, "{image}: not a readable image"),
    "cut xml": (_edited("</annotation>", "</anno"), "{xml}: not well-formed XML"),
    "entity": (_edited(">cat<", ">&y;<", before=ENTITY), "{xml}: has a document type declaration"),
    "huge": (lambda devkit, voc_object: devkit.xml("a").write_bytes(b" " * (1 << 24) + b"  "), "{xml}: larger than"),
    "folder": (lambda devkit, voc_object: (devkit.xml("a").unlink(), devkit.xml("a").mkdir()), "{xml}: cannot be read"),
    "html": (lambda devkit, voc_object: devkit.xml("a").write_text("<html></html>"), "{xml}: starts with <html>"),
    "class": (_edited("cat", "Cat"), "{xml}: object 1 is 'Cat', not one of the 20 classes"),
    "size": (_other_size, "{xml}: the size of a is 40x50, but {image} has 50x40 pixels"),
    "number": (_edited("<ymin>1<", "<ymin>one<"), "{xml}: object 1: <bndbox/ymin> is 'one', not a number"),
    "nan": (_edited("<ymin>1<", "<ymin>nan<"), "{xml}: object 1: <bndbox/ymin> is 'nan', not a number"),
    "side": (_edited("<xmax>9</xmax>", ""), "{xml}: object 1: <bndbox/xmax> is missing"),
    "difficult": (_edited("<difficult>0", "<difficult>maybe"), "{xml}: object 1: <difficult> is 'maybe'"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_unusable_files_are_named(devkit, voc_object, how):
    devkit.add("a", voc_object("cat", 1, 1, 9, 9))
    devkit.split("train", "a")
    damage, message = BROKEN[how]
    damage(devkit, voc_object)
    with pytest.raises(annotation.DataError) as caught:
        dataset.open_split(str(devkit), "train")
    assert str(caught.value).startswith(message.format(xml=devkit.xml("a"), image=devkit.image("a")))
    assert check_dataset.inspect(str(devkit), [], dataset.CLASSES).unusable == [str(caught.value)]


def test_missing_sizes_are_read_from_the_image(devkit, voc_object):
    devkit.add("a", voc_object("cat", 1, 1, 9, 9), size="")
    devkit.add("b", size="<size><width>0</width><height>0</height></size>")
    devkit.split("train", "a", "b")
    assert [(image.height, image.width) for image in dataset.open_split(str(devkit), "train")] == [(40, 50)] * 2


def test_lists_may_contain_file_names_or_paths(devkit):
    for name in ("a", "b", "c.v2", "d.jpg"):
        devkit.add(name)
    devkit.split("train", "a.JPG", "JPEGImages\\b.png", "c.v2", "d.jpg")
    names = dataset.reader(str(devkit)).names("train")
    assert names == ["a", "b", "c.v2", "d.jpg"]
    assert [image.id for image in dataset.open_split(str(devkit), "train")] == names


def test_lists_of_one_class_are_not_splits(devkit, tmp_path):
    devkit.add("a")
    devkit.add("frame 1")
    devkit.split("default", "a")
    devkit.split("hard_hat_default", "a")
    devkit.split("vest_default", "a  1")  # of an unknown class
    devkit.split("night", "frame 1")
    devkit.split("._default", "a")
    assert dataset.reader(str(devkit), ("hard_hat",)).splits() == ["default", "night"]


CHINESE = "<annotation><folder>照片頭</folder><object><name>安全帽</name><bndbox><xmin>1.0</xmin><ymin>1</ymin>" \
          "<xmax>9.4</xmax><ymax>9</ymax></bndbox></object></annotation>"  # fmt: skip
FRENCH = CHINESE.replace("照片頭", "été à côté").replace("安全帽", "vélo")


@pytest.mark.parametrize(
    ("declared", "written"),
    [("gb2312", "gbk"), ("GBK", "gbk"), (None, "gbk"), ("utf-8", "gbk"), ("gb2312", "utf-8"), ("utf-8", "utf-8-sig"),
     ("utf-16", "utf-16"), (None, "utf-16-le"), ("big5", "utf-8"), ("no-such-code", "utf-8")],
)  # fmt: skip
def test_the_encoding_of_annotations_is_detected(devkit, declared, written):
    devkit.add("a")
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    devkit.xml("a").write_bytes((head + CHINESE).encode(written))
    devkit.split("train", "a")
    assert dataset.open_split(str(devkit), "train", ("安全帽",))[0].labels.tolist() == [0]


@pytest.mark.parametrize("declared", ["iso-8859-1", "utf-8", None])
def test_latin1_annotations_are_read(devkit, declared):
    devkit.add("a")
    head = f'\n<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    devkit.xml("a").write_bytes((head + FRENCH).encode("latin-1"))
    devkit.split("train", "a")
    assert dataset.open_split(str(devkit), "train", ("vélo",))[0].boxes.shape == (1, 4)


def test_invalid_lists_are_named(devkit):
    devkit.add("a")
    devkit.split("train", "a")
    devkit.split("empty")
    devkit.split("twice", "a", "a")
    devkit.split("cat_train", "a -1")
    lists = devkit.folder / "ImageSets" / "Main"
    for split, message in {
        "test": f"{lists / 'test.txt'}: no such list; found empty, train, twice",
        "empty": f"{lists / 'empty.txt'}: no image listed",
        "twice": f"{lists / 'twice.txt'}: a is listed more than once",
        "cat_train": f"{devkit.xml('a -1')}: no such annotation. The split is the list of a single class",
    }.items():
        with pytest.raises(annotation.DataError) as caught:
            dataset.open_split(str(devkit), split)
        assert str(caught.value).startswith(message)


def test_the_parent_of_the_year_folders_is_rejected(devkit):
    with pytest.raises(annotation.DataError, match=r"Pass .*VOC2007, which has\."):
        dataset.open_split(str(devkit.folder.parent), "train")
    with pytest.raises(annotation.DataError, match="no/where: no such folder"):
        dataset.open_split("no/where", "train")


def test_real_voc_annotations_are_read(data):
    from fd_keras.training.voc import dataset as voc

    images = voc.open_split(str(data / "VOCdevkit" / "VOC2007"), "val")
    assert len(images) == 200
    assert sum(len(image.boxes) for image in images) == 692
    assert sum(int(image.difficult.sum()) for image in images) == 146
    for image in images:
        assert (image.boxes[:, :2] >= 0).all()
        assert (image.boxes[:, 2:] < [image.width, image.height]).all()
        assert (image.boxes[:, 2:] > image.boxes[:, :2]).all()
