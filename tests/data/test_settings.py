from pathlib import Path

import pytest

from shammah_data.errors import SettingsError
from shammah_data.settings import Settings


def load(tmp_path: Path, text: str | bytes) -> Settings:
    path = tmp_path / "config.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Settings.load(path)


def test_no_file_means_the_defaults(tmp_path: Path) -> None:
    assert Settings.load(tmp_path / "config.toml") == Settings()


def test_values_are_taken_and_the_rest_are_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, '[serve]\nthreads = 4\nprovider = "cpu"\n[teacher]\noffline = true\n[train]\nepochs = 3\n')
    assert (settings.serve.threads, settings.serve.provider) == (4, "cpu")
    assert settings.teacher.offline is True
    assert (settings.train.epochs, type(settings.train.epochs)) == (3.0, float)
    assert settings.serve.max_tokens == Settings().serve.max_tokens


def test_a_base_may_be_below_the_home_of_who_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert Path(load(tmp_path, '[train]\nbase = "~/model"').train.base) == tmp_path / "model"
    assert load(tmp_path, '[train]\nbase = "some/model"').train.base == "some/model"


def test_stop_strings_are_a_list(tmp_path: Path) -> None:
    assert load(tmp_path, '[serve]\nstop = ["###", "\\n\\n"]').serve.stop == ("###", "\n\n")
    assert load(tmp_path, "[serve]\nstop = []").serve.stop == ()


def test_the_log_may_be_on_a_server_and_privacy_is_a_section(tmp_path: Path) -> None:
    settings = load(tmp_path, 'log = "quack:localhost:9494"\n[privacy]\npersonal_data = "mask"\ntrain_on_teacher = false\n')
    assert settings.log == "quack:localhost:9494"
    assert (settings.privacy.personal_data, settings.privacy.train_on_teacher) == ("mask", False)
    assert load(tmp_path, 'log = "quack:[::1]:9494"\n').log == "quack:[::1]:9494"
    assert load(tmp_path, "").log == ""


def test_the_byte_order_mark_of_an_editor_is_no_key(tmp_path: Path) -> None:
    assert load(tmp_path, b"\xef\xbb\xbf[serve]\nthreads = 3\n").serve.threads == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[serve]\nthread = 2", r"unknown key serve\.thread; did you mean 'threads'\?"),
        ("[server]\nthreads = 2", "unknown key server; did you mean 'serve'"),
        ("[train]\nzzz = 2", r"unknown key train\.zzz; known: balance, base"),
        ('log = "postgres://x"', 'log = .*; it must name a server, as in log = "quack:localhost:9494"'),
        ('log = "quack:localhost"', "it must name a server"),
        ('log = "quack:localhost:99999"', "it must name a server"),
        ("log = 3", "it must name a server"),
        ("[log]\npath = 3", "it must name a server"),
        ("serve = 3", r"serve must be a table, written \[serve\]"),
        ("[serve]\nthreads = '2'", r"serve\.threads = '2'; it must be of type int"),
        ("[serve]\nthreads = true", r"serve\.threads = True; it must be of type int"),
        ("[serve]\nthreads = 2.0", r"serve\.threads = 2\.0; it must be of type int"),
        ("[teacher]\noffline = 1", r"teacher\.offline = 1; it must be of type bool"),
        ("[teacher]\nmodel = 1", r"teacher\.model = 1; it must be of type str"),
        ("[serve]\nprovider = 'gpu'", r"serve\.provider = 'gpu'; one of auto, cpu, cuda"),
        ("[serve]\nprovider = []", r"serve\.provider = \[\]; one of auto, cpu, cuda"),
        ("[serve]\nthreads = 0", r"serve\.threads = 0; it must lie between 1 and 256"),
        ("[serve]\ntop_p = 1.5", r"serve\.top_p = 1\.5; it must lie between 0\.0 and 1\.0"),
        ("[serve]\nstop = 'end'", r"serve\.stop = 'end'; it must be a list of texts, none of them empty"),
        ("[serve]\nstop = ['end', '']", r"serve\.stop = .*; it must be a list of texts"),
        ("[serve]\nstop = [3]", r"serve\.stop = \[3\]; it must be a list of texts"),
        ("[serve]\nbeams = 33", r"serve\.beams = 33; it must lie between 1 and 32"),
        ("[serve]\nbeams = 3\ntemperature = 0.5", r"serve\.beams = 3 and serve\.temperature = 0\.5: a beam search"),
        ("[serve]\ntop_p = nan", r"serve\.top_p = nan; it must lie"),
        ("[routing]\ntarget_precision = 95", r"routing\.target_precision = 95\.0; it must lie between 0\.0 and 1\.0"),
        ("[serve]\ntemperature = inf", r"serve\.temperature = inf; it must lie"),
        ("[serve\nthreads = 1", "cannot be read as TOML"),
        (b"[teacher]\nmodel = '\xff'", "cannot be read as TOML"),
        ("a = " + "[" * 5000, "cannot be read as TOML"),
    ],
)
def test_a_mistake_is_named_in_one_line(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        load(tmp_path, text)
    assert str(tmp_path / "config.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        Settings.load(tmp_path)
