"""Which images of a source are meant: one spelling for one choice, and a sentence for each that makes no sense."""

import pytest

from isonb import config, rows, subsets
from isonb.config import ConfigError, RunConfig


@pytest.mark.parametrize(
    ("text", "spelling", "numbers"),
    [
        ("", "", ()),
        ("0-4", "0-4", (0, 1, 2, 3, 4)),
        ("4,0,1-3", "0-4", (0, 1, 2, 3, 4)),
        (" 7, 0-2 ", "0-2,7", (0, 1, 2, 7)),
        ("3,3,5", "3,5", (3, 5)),
        ("0,1", "0-1", (0, 1)),
    ],
)
def test_one_choice_of_classes_has_one_spelling_and_one_run(text, spelling, numbers):
    assert subsets.spelt(text) == spelling
    assert subsets.numbers(text) == numbers
    run = RunConfig(data="cifar10", classes=text)
    assert run.classes == spelling
    assert run == RunConfig(data="cifar10", classes=spelling)
    assert run.run_id == RunConfig(data="cifar10", classes=spelling).run_id


def test_settings_at_their_defaults_leave_the_names_of_earlier_runs():
    assert config.cpu().run.run_id == "conv-continuous-L1-s0-bc508c2d"  # of a record of version 1
    assert config.cpu(probe_data="cifar100").run.run_id == "conv-continuous-L1-s0-bc508c2d"
    assert config.cpu(classes="0-4").run.run_id != config.cpu().run.run_id


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"classes": "3"}, "classes='3' is not allowed: name at least two classes, to be told apart."),
        ({"classes": "4-0"}, "classes='4-0' is not allowed: write 0-4, the smaller number first."),
        ({"classes": "cat"}, "classes='cat' is not allowed: write numbers and ranges with commas between them, as in"),
        ({"classes": ","}, "classes=',' is not allowed: write numbers and ranges"),
        ({"classes": "-1,2"}, "classes='-1,2' is not allowed: write numbers and ranges"),
        ({"classes": "1-99999"}, "classes='1-99999' is not allowed: write numbers and ranges"),
        ({"classes": True}, "classes=True is not allowed: it must be text, in quotes."),
        ({"classes": "5-10"}, "classes='5-10' is not allowed with data='cifar10': its classes are 0 to 9."),
        ({"classes": "5-12"}, "classes='5-12' is not allowed with data='cifar10': its classes are 0 to 9."),
        ({"classes": "0-9"}, "classes='0-9' are all classes of data='cifar10': leave them out."),
        ({"fold": 1}, "fold=1 has no effect with data='cifar10': leave fold at 0 or set data='stl10'."),
        ({"data": "stl10", "fold": 11}, "fold=11 is not allowed with data='stl10': its folds are 1 to 10."),
        ({"data": "stl10", "fold": -1}, "fold=-1 is not allowed: it must be greater than or equal to 0."),
        ({"unlabelled": True}, "unlabelled=True has no effect with data='cifar10': leave unlabelled at False or set"),
        ({"data": "stl10", "unlabelled": True, "classes": "0-4"}, "classes='0-4' is not allowed with unlabelled=True:"),
        (
            {"data": "stl10", "unlabelled": True, "fold": 2},
            "fold=2 is not allowed with unlabelled=True: images without",
        ),
        ({"probe_data": "cifar10"}, "probe_data='cifar10' names the images of pre-training: leave it out."),
        ({"classes": "0-4", "probe_classes": "4,3,0-2"}, "probe_classes='0-4' names the images of pre-training:"),
        ({"probe_fold": 1}, "Of the probe's images, fold=1 has no effect with data='cifar10': leave"),
        ({"probe_data": "mnist"}, "Of the probe's settings, data='mnist' is not allowed: choose photos, "),
        ({"probe_classes": "7-"}, "Of the probe's settings, classes='7-' is not allowed: write numbers"),
        ({"data": "photos", "image_size": 16, "probe_data": "cifar10"}, "Of the probe's images, image_size=16 is not"),
        ({"finetune_data": "cifar100"}, "Of the fine-tuning's settings, data='cifar100' has no effect with epochs=0:"),
        ({"finetune_epochs": 1, "finetune_classes": "0-99"}, "Of the fine-tuning's images, classes='0-99' is not"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused_in_a_sentence(settings, sentence):
    with pytest.raises(ConfigError) as refusal:
        config.cpu(**settings)
    assert str(refusal.value).startswith(sentence)
    assert "\n" not in str(refusal.value)


def read(**settings):
    """What the parts of a cell of the study cpu read: source, classes and fold of each set of images."""
    return [(run.data, run.classes, run.fold, run.unlabelled) for run in config.cpu(**settings).reads]


def test_a_part_reads_the_images_of_pretraining_unless_it_names_others():
    assert read() == [("cifar10", "", 0, False)]
    assert read(classes="0-4", finetune_epochs=1) == [("cifar10", "0-4", 0, False)]
    assert read(classes="0-4", probe_classes="5-9") == [("cifar10", "0-4", 0, False), ("cifar10", "5-9", 0, False)]
    assert read(classes="0-4", probe_data="cifar10")[1] == ("cifar10", "", 0, False)  # the others mean all
    assert read(probe_data="stl10", probe_fold=3)[1] == ("stl10", "", 3, False)
    assert read(data="stl10", fold=2, probe_classes="0-1")[1] == ("stl10", "0-1", 0, False)
    assert len(read(probe_data="stl10", finetune_data="stl10", finetune_epochs=1)) == 2


def test_images_without_labels_are_judged_by_the_labelled_ones():
    assert read(data="stl10", unlabelled=True) == [("stl10", "", 0, True), ("stl10", "", 0, False)]
    assert read(data="stl10", unlabelled=True, probe_fold=4)[1] == ("stl10", "", 4, False)


def test_the_share_of_training_images_is_of_pretraining_alone():
    _, probed = config.cpu(data_fraction=0.25, probe_classes="5-9").reads
    assert probed.data_fraction == 1
    assert (
        config.cpu(data_fraction=0.25, probe_data="cifar10").reads[1].data_fraction == 1
    )  # so that it is another choice
    with pytest.raises(ConfigError, match="names the images of pre-training"):
        config.cpu(probe_data="cifar10")


def test_published_numbers_are_those_of_the_choice():
    assert RunConfig(data="cifar10", classes="0-4").published == (25_000, 5_000)
    assert RunConfig(data="cifar100", classes="0-9").published == (5_000, 1_000)
    assert RunConfig(data="stl10").published == (5_000, 8_000)
    assert RunConfig(data="stl10", fold=1).published == (1_000, 8_000)
    assert RunConfig(data="stl10", unlabelled=True).published == (100_000, 8_000)
    assert RunConfig(data="imagenet32").published == (1_281_167, 50_000)
    assert RunConfig(data="imagenet32", classes="0-9").published is None  # its classes differ in size
    assert RunConfig(data="folder").published is None


def test_a_folder_is_one_for_all_or_one_for_each_source():
    assert subsets.folders("/data") is None
    assert subsets.folders("~/a=b/c,d") is None
    assert subsets.folders("cifar10=/a,stl10=~/b, c") == {"cifar10": "/a", "stl10": "~/b, c"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("cifar10=/a,stl11=/b", "In data_folder, There is no source called 'stl11': did you mean 'stl10'?"),
        ("cifar10=/a,cifar10=/b", "data_folder names two folders for cifar10: leave one out."),
        ("cifar10=", "data_folder names no folder for cifar10: write cifar10=FOLDER."),
        ("cifar10=/a,stl10=/b", "data_folder names a folder of stl10, which this cell does not read: leave it out."),
    ],
)
def test_a_folder_for_each_source_that_makes_no_sense_is_refused_in_a_sentence(text, sentence):
    with pytest.raises(ConfigError) as refusal:
        config.from_parameters({"data": "cifar10", "data_folder": text})
    assert str(refusal.value) == sentence
    config.from_parameters({"data": "cifar10", "probe_data": "stl10", "data_folder": "cifar10=/a,stl10=/b"})
    config.from_parameters({"data": "photos", "probe_data": "stl10", "data_folder": "/b"})


def test_only_a_source_with_labels_has_classes_to_choose_and_its_row_says_how_many():
    for name, row in rows.SOURCES.items():
        assert row.classes is None or row.classes > 1, name
        assert not row.folds or row.fold_size * 2 <= row.published[0], name
