"""Where settings come from, which values they accept, and with which ones a server refuses to start."""

import json
import os
from fractions import Fraction
from pathlib import Path

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from creemson.cli.shared.options import load_settings
from creemson.executors import machine
from creemson.settings import checks
from creemson.settings.checks import cautions, describe, problems
from creemson.settings.fields import TEXT_KINDS
from creemson.settings.load import Loaded, load
from creemson.settings.sections import FIELDS, Limits, Server, Settings, Storage
from creemson.settings.units import SettingsError, format_bytes, format_seconds, parse_bytes, parse_seconds

# Every setting with its documented default, in the order of the reference page.
DEFAULTS = {
    "server.host": "127.0.0.1",
    "server.port": 8000,
    "server.insecure": False,
    "server.tls_cert": None,
    "server.tls_key": None,
    "server.allowed_origins": (),
    "server.reuse_port": False,
    "server.processes": 1,
    "server.drain_timeout": 10.0,
    "server.transport": "fast",
    "auth.mode": "none",
    "auth.token_file": None,
    "auth.jwt_key": None,
    "auth.jwt_algorithms": (),
    "auth.jwt_audience": None,
    "auth.jwt_leeway": 10.0,
    "auth.timeout": 10.0,
    "limits.connections": 10_000,
    "limits.connections_per_address": 1000,
    "limits.connections_per_caller": 1000,
    "limits.message_bytes": 1024**2,
    "limits.chunk_bytes": 1024**2,
    "limits.batch_messages": 1000,
    "limits.nesting_depth": 32,
    "limits.upload_bytes": 10 * 1024**3,
    "limits.storage_bytes": 0,
    "limits.messages_per_s": 1000.0,
    "limits.messages_burst": 2000,
    "limits.jobs_per_caller": 8,
    "limits.queue": 1000,
    "limits.queue_per_caller": None,
    "limits.results_per_caller": None,
    "limits.lookups_per_caller": None,
    "limits.outbox_bytes": 8 * 1024**2,
    "limits.memory_bytes": 0,
    "timeouts.handshake": 10.0,
    "timeouts.send": 30.0,
    "timeouts.heartbeat_interval": 20.0,
    "timeouts.heartbeat_timeout": 20.0,
    "timeouts.job": 300.0,
    "timeouts.upload_idle": 86_400.0,
    "retries.job": 3,
    "storage.data_dir": Path("creemson-data"),
    "storage.keep_uploads": 7 * 86_400.0,
    "storage.keep_outputs": 86_400.0,
    "storage.tables": "auto",
    "storage.tables_bytes": None,
    "storage.url": None,
    "storage.scratch_bytes": None,
    "catalog.url": None,
    "processing.workers": len(os.sched_getaffinity(0)),
    "processing.worker_memory_bytes": 0,
    "processing.nice": 19,
    "processing.engine": "local",
    "processing.dask_scheduler": None,
    "processing.dask_least_bytes": 16 * 2**20,
    "processing.dask_part_bytes": 256 * 2**20,
    "processing.dask_ca": None,
    "processing.dask_cert": None,
    "processing.dask_key": None,
    "log.format": "auto",
    "log.level": "info",
}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load_from(*overrides, config=None, **environ):
    return load(config=config, environ=environ, overrides=overrides)


def value(loaded_settings, key):
    section, name = key.split(".")
    return getattr(getattr(loaded_settings, section), name)


def faults(*overrides, config=None, **environ):
    with pytest.raises(SettingsError) as caught:
        load_from(*overrides, config=config, **environ)
    return str(caught.value).splitlines()


# --- defaults ----------------------------------------------------------------------------------------


def test_every_setting_has_its_documented_default():
    """`Settings()` needs no arguments and has exactly the documented settings and defaults."""
    default = Settings()
    found = {key: value(default, key) for key in FIELDS}
    assert list(DEFAULTS) == list(found)
    assert found == DEFAULTS
    assert [type(one) for one in DEFAULTS.values()] == [type(one) for one in found.values()]


def test_settings_are_immutable_values():
    """They cannot be changed, compare by content, and are varied with `attrs.evolve`."""
    default = Settings()
    assert default == Settings()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        default.limits = Limits()
    varied = attrs.evolve(default, limits=attrs.evolve(default.limits, queue=2))
    assert (default.limits.queue, varied.limits.queue) == (1000, 2)


def test_section_made_in_code_is_validated():
    """It accepts the same spellings and has the same bounds as a loaded one."""
    assert Limits(upload_bytes="2 MiB").upload_bytes == 2 * 1024**2
    assert Path("x") == Storage(data_dir="x").data_dir
    with pytest.raises(ValueError, match="queue"):
        Limits(queue=0)


def test_every_setting_has_one_line_of_help():
    """The help fits into a table, and the setting states what it expects."""
    for key, field in FIELDS.items():
        text = field.metadata["help"]
        assert 0 < len(text) <= 100, key
        assert "\n" not in text
        assert "|" not in text, "it would break the table of the reference page"
        assert field.metadata["expects"]


# --- sources -----------------------------------------------------------------------------------------


def test_load_without_sources_gives_defaults():
    """Every origin is "default"."""
    loaded = load_from()
    assert Settings() == loaded.settings
    assert dict.fromkeys(FIELDS, "default") == loaded.origins


def test_flag_beats_environment_beats_file_beats_default():
    """The origin of each value is kept."""
    Path("creemson.toml").write_text(
        "[limits]\nqueue = 1\nconnections = 1\nbatch_messages = 1\n[timeouts]\njob = '1h'\n"
    )
    loaded = load_from(
        "limits.queue=2",
        "limits.queue=3",
        CREEMSON_LIMITS__QUEUE="4",
        CREEMSON_LIMITS__CONNECTIONS="5",
    )
    assert Settings().limits.chunk_bytes == loaded.settings.limits.chunk_bytes
    assert (
        loaded.settings.limits.queue,
        loaded.settings.limits.connections,
        loaded.settings.limits.batch_messages,
    ) == (3, 5, 1)
    assert loaded.settings.timeouts.job == 3600.0
    assert {key: origin for key, origin in loaded.origins.items() if origin != "default"} == {
        "limits.queue": "--set",
        "limits.connections": "CREEMSON_LIMITS__CONNECTIONS",
        "limits.batch_messages": "creemson.toml",
        "timeouts.job": "creemson.toml",
    }


def test_named_file_replaces_the_one_in_the_folder(tmp_path):
    """`config` replaces `creemson.toml`; origins name it as given; a byte order mark is accepted."""
    Path("creemson.toml").write_text("[limits]\nqueue = 1\n")
    other = tmp_path / "other.toml"
    other.write_bytes(b"\xef\xbb\xbf[limits]\r\nconnections = 2\r\n")
    loaded = load_from(config=other)
    assert Settings().limits.queue == loaded.settings.limits.queue
    assert loaded.settings.limits.connections == 2
    assert str(other) == loaded.origins["limits.connections"]


def test_empty_section_changes_nothing():
    """A section header without keys is valid."""
    Path("creemson.toml").write_text("[limits]\n")
    assert Settings() == load_from().settings


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "The settings file named.toml does not exist."),
        (b"[limits\n", "The settings file named.toml cannot be read: "),
        (b"a = '\xff'\n", "The settings file named.toml cannot be read: "),
    ],
)
def test_unusable_file_is_refused_by_name(content, expected):
    """A named file that is missing, not TOML or not UTF-8 is an error that names it."""
    if content is not None:
        Path("named.toml").write_bytes(content)
    (fault,) = faults(config=Path("named.toml"))
    assert fault.startswith(expected)


def test_folder_in_place_of_the_file_is_refused():
    """A default file that cannot be opened is an error too."""
    Path("creemson.toml").mkdir()
    (fault,) = faults()
    assert "creemson.toml cannot be read" in fault


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("server.port", "0", 0),
        ("server.insecure", "true", True),
        ("server.host", "::1", "::1"),
        ("server.host", '"::1"', "::1"),
        ("server.allowed_origins", '["http://localhost:3000", "*"]', ("http://localhost:3000", "*")),
        ("server.allowed_origins", "http://localhost:3000", ("http://localhost:3000",)),
        ("server.allowed_origins", "", ()),
        ("server.tls_key", "key.pem", Path("key.pem")),
        ("server.tls_key", "", None),
        ("auth.jwt_audience", "", None),
        ("auth.jwt_audience", "12", "12"),
        ("limits.messages_per_s", "0.5", 0.5),
        ("limits.upload_bytes", "1_000", 1000),
        ("limits.upload_bytes", "10MB", 10**7),
        ("timeouts.job", "2", 2.0),
        ("timeouts.job", '"500ms"', 0.5),
        ("timeouts.job", "  7 d ", 7 * 86_400.0),
        ("storage.data_dir", "2024", Path("2024")),
        ("storage.data_dir", "/a=b", Path("/a=b")),
        ("storage.data_dir", "1\nx = 2", Path("1\nx = 2")),
    ],
)
def test_flag_and_variable_values_are_toml_or_plain_text(key, text, expected):
    """The value is TOML; what is not valid TOML is a string; a path may look like a number."""
    assert expected == value(load_from(f"{key}={text}").settings, key)
    variable = "CREEMSON_" + key.upper().replace(".", "__")
    assert expected == value(load_from(**{variable: text}).settings, key)


@pytest.mark.parametrize(
    "folder", ["/x/😀", "/x/日本", '/x/"q"', "/x/\x7f", "true", "[]", " a ", "/x/\n", "\\u0041"]
)
def test_data_folder_given_as_a_flag_is_taken_as_it_is(folder):
    """A path is not TOML: no character of it is special."""
    loaded = load_settings(None, [], data_dir=Path(folder))
    assert loaded.settings.storage.data_dir == Path(folder)
    assert loaded.origins["storage.data_dir"] == "--data-dir"


def test_data_folder_that_is_not_utf_8_is_refused():
    """Workers get paths as JSON, which has no such names."""
    settings = Settings(storage=Storage(data_dir=Path(os.fsdecode(b"/x/\xff"))))
    (found,) = problems(settings)
    assert "is not UTF-8" in found
    assert found.isascii()


def test_empty_text_unsets_an_optional_setting():
    """TOML has no null, so the empty text overrides a value from the file."""
    Path("creemson.toml").write_text("[server]\ntls_key = 'key.pem'\n")
    loaded = load_from(CREEMSON_SERVER__TLS_KEY="")
    assert loaded.settings.server.tls_key is None
    assert loaded.origins["server.tls_key"] == "CREEMSON_SERVER__TLS_KEY"


def test_tilde_in_path_is_the_home_folder(monkeypatch):
    """Shells leave `~` unchanged after `--set key=`."""
    monkeypatch.setenv("HOME", "/home/ada")
    assert Path("/home/ada/data") == load_from("storage.data_dir=~/data").settings.storage.data_dir
    (fault,) = faults("storage.data_dir=~no-such-user/data")
    assert "expected a path" in fault


# --- errors ------------------------------------------------------------------------------------------


def test_unknown_key_is_refused_with_nearest_key():
    """This holds for every source."""
    Path("creemson.toml").write_text("port = 1\n[limit]\nqueue = 1\n[server]\nhots = 'x'\n")
    assert faults("limits.quue=1", CREEMSON_LIMITS_QUEUE="1", CREEMSON_RATE_LIMITS__QUEU="1") == [
        'There is no setting "port" (creemson.toml); the most similar is "server.port".',
        'There is no setting "limit.queue" (creemson.toml); the most similar is "limits.queue".',
        'There is no setting "server.hots" (creemson.toml); the most similar is "server.host".',
        'There is no setting "CREEMSON_LIMITS_QUEUE"; the most similar is "CREEMSON_LIMITS__QUEUE".',
        'There is no setting "CREEMSON_RATE_LIMITS__QUEU"; the most similar is "CREEMSON_LIMITS__QUEUE".',
        'There is no setting "limits.quue" (--set); the most similar is "limits.queue".',
    ]


@pytest.mark.parametrize(
    "variable", ["CREEMSON__X", "CREEMSON_LOG", "CREEMSON_X__Y", "CREEMSON_Limits__queue"]
)
def test_variable_that_looks_like_a_setting_is_checked(variable):
    """A name with two underscores, or one that starts with a section, is a setting or a typo."""
    (fault,) = faults(**{variable: "1"})
    assert fault.startswith(f'There is no setting "{variable}"; the most similar is "CREEMSON_')


def test_unknown_section_is_refused_even_if_empty():
    """The error names the nearest setting."""
    Path("creemson.toml").write_text("[limit]\n")
    (fault,) = faults()
    assert fault.startswith('There is no setting "limit" (creemson.toml); the most similar is "limits.')


def test_unrelated_variables_are_ignored():
    """Variables of other programs, and those Kubernetes sets for a service named creemson, are not settings."""
    environ = {
        "CREEMSON_PORT": "tcp://10.0.0.1:8000",
        "CREEMSON_SERVICE_HOST": "10.0.0.1",
        "SERVER__PORT": "1",
        "limits__queue": "1",
        "PATH": "/bin",
    }
    assert Settings() == load_from(**environ).settings


def test_section_that_is_not_a_table_is_refused():
    """A section name with a plain value is an unknown key, not a crash."""
    Path("creemson.toml").write_text("limits = 5\n")
    (fault,) = faults()
    assert fault.startswith('There is no setting "limits" (creemson.toml)')


@pytest.mark.parametrize("text", ["limits.queue", "", "--port 80"])
def test_flag_without_value_is_refused_with_example(text):
    """`--set` without an equals sign shows the syntax."""
    assert [f'--set takes section.key=value, for example limits.queue=10, not "{text}".'] == faults(text)


def test_invalid_values_are_all_reported_in_full():
    """Each error has key, value, source and expectation; all errors are reported together."""
    Path("creemson.toml").write_text("[limits]\nqueue = 2.5\n[server]\nallowed_origins = [1, true]\n")
    assert faults("log.level=loud", CREEMSON_SERVER__PORT="70000") == [
        "limits.queue = 2.5 (creemson.toml): expected an integer of at least 1.",
        "server.allowed_origins = [1, true] (creemson.toml): expected a list of origins such as "
        '["https://app.example.org"] (no path, no final slash), or "*".',
        "server.port = 70000 (CREEMSON_SERVER__PORT): expected an integer from 0 to 65535.",
        'log.level = "loud" (--set): expected one of debug, info, warning, error.',
    ]


def test_invalid_value_is_refused_even_if_overridden():
    """An invalid line in the file is reported although a flag overrides it."""
    Path("creemson.toml").write_text("[limits]\nqueue = 0\n")
    (fault,) = faults("limits.queue=5")
    assert fault.startswith("limits.queue = 0 (creemson.toml)")


def test_secret_is_never_repeated():
    """The signing key appears in no error message, table or repr."""
    Path("creemson.toml").write_text("[auth]\njwt_key = ['hunter2']\n")
    (fault,) = faults()
    assert fault == "auth.jwt_key = *** (creemson.toml): expected text."
    loaded = load_from("auth.jwt_key=hunter2", config=Path(os.devnull))
    assert loaded.settings.auth.jwt_key == "hunter2"
    assert "hunter2" not in repr(loaded)
    assert {row.key: row.value for row in describe(loaded)}["auth.jwt_key"] == "***"


BAD = {
    "server.host": ['""', "[]"],
    "server.port": ["-1", "65536", "true", "80.0", "http"],
    "server.insecure": ["1", "yes", "[]"],
    "server.tls_cert": ["[1]"],
    "server.allowed_origins": ["5", "localhost:3000", "https://x/", '"https://a,https://b"', "[[]]"],
    "server.drain_timeout": ["-1", "10 apples", "true", "inf", "nan", "1" + "0" * 400],
    "server.transport": ["quick", "true"],
    "auth.mode": ["basic", "[]"],
    "auth.jwt_audience": ["[]"],
    "limits.connections": ["0", "ten", str(2**63)],
    "limits.message_bytes": ["0", "-1", "1.5", "10 GiG", "true", "0.5 B", "9999999 TiB"],
    "limits.storage_bytes": ["-1"],
    "limits.messages_per_s": ["0", "-1", '"10 s"', "nan", "true"],
    "timeouts.job": ["0", "-5", "1 h 30 min", '"9' + "9" * 400 + '"', "h", "٣ s", "1979-05-27", "{}"],
    "retries.job": ["-1"],
    "storage.data_dir": ['""'],
    "processing.workers": ["0"],
    "processing.nice": ["-1", "20"],
    "log.format": ["xml"],
}


@pytest.mark.parametrize(("key", "text"), [(key, text) for key, texts in BAD.items() for text in texts])
def test_value_out_of_bounds_is_refused_with_expectation(key, text):
    """A value out of bounds or of the wrong type is refused with the setting's own words."""
    if FIELDS[key].converter in TEXT_KINDS and text in ("[]", "[1]"):
        # On the command line this is valid text; only a file can give it a wrong type.
        Path("creemson.toml").write_text(f"[{key.split('.')[0]}]\n{key.split('.')[1]} = {text}\n")
        (fault,) = faults()
    else:
        (fault,) = faults(f"{key}={text}")
    assert fault.startswith(f"{key} = ")
    assert fault.endswith(f": expected {FIELDS[key].metadata['expects']}.")


# --- units -------------------------------------------------------------------------------------------

SECONDS = {"": 1, "s": 1, "ms": Fraction(1, 1000), "min": 60, "m": 60, "h": 3600, "d": 86_400}
BYTES = {"": 1, "B": 1} | {
    prefix + suffix: base**power
    for suffix, base in (("iB", 1024), ("B", 1000))
    for power, prefix in enumerate("KMGT", start=1)
}
SPACE = st.sampled_from(["", " ", "  "])
CASE = st.sampled_from([str, str.lower, str.upper])
NUMBER = st.one_of(
    st.integers(0, 10**9).map(str),
    st.tuples(st.integers(0, 10**6), st.integers(0, 999)).map(lambda pair: f"{pair[0]}.{pair[1]:03}"),
)


@given(NUMBER, st.sampled_from(list(SECONDS)), SPACE, CASE)
def test_duration_with_unit_is_parsed_exactly(number, unit, space, case):
    """A number, optional spaces and a unit in any case give exactly that many seconds."""
    expected = float(Fraction(number) * SECONDS[unit])
    assert expected == parse_seconds(f"{number}{space}{case(unit)}")


@given(NUMBER, st.sampled_from(list(BYTES)), SPACE, CASE)
def test_size_with_unit_is_parsed_exactly(number, unit, space, case):
    """A number, optional spaces and a unit in any case give that many bytes, without rounding errors."""
    assert int(Fraction(number) * BYTES[unit]) == parse_bytes(f"{number}{space}{case(unit)}")


@given(st.text())
@example("1e5")
@example("9" * 5000)
@example("1_0")
def test_any_other_text_is_refused(text):
    """Parsing any text gives a number of at least 0 or a SettingsError, nothing else."""
    for parse in (parse_seconds, parse_bytes):
        try:
            result = parse(text)
        except SettingsError:
            continue
        assert result >= 0


@given(st.integers(0, 2**63))
def test_formatted_size_is_parsed_back(size):
    """A displayed size can be used as a setting and is unchanged."""
    assert size == parse_bytes(format_bytes(size))


@given(st.one_of(st.integers(0, 10**9).map(float), st.floats(0.001, 1e9)))
@example(86_400.0)
def test_formatted_duration_is_parsed_back(seconds):
    """A displayed duration can be used as a setting and is unchanged."""
    text = format_seconds(seconds)
    assert seconds == parse_seconds(text)
    assert len(text) <= len(str(seconds)) + 6


# --- display -----------------------------------------------------------------------------------------


def test_describe_lists_every_setting():
    """One row per setting: key, value, origin, help; rows are plain tuples."""
    loaded = load_from("server.allowed_origins=*", "timeouts.job=90", CREEMSON_SERVER__INSECURE="true")
    rows = {key: (text, origin, line) for key, text, origin, line in describe(loaded)}
    assert list(FIELDS) == list(rows)
    assert ('["*"]', "--set", FIELDS["server.allowed_origins"].metadata["help"]) == rows[
        "server.allowed_origins"
    ]
    assert {
        "timeouts.job": "90 s",
        "server.insecure": "true",
        "server.host": "127.0.0.1",
        "server.tls_cert": "",
        "limits.upload_bytes": "10 GiB",
        "storage.data_dir": "creemson-data",
        "limits.messages_per_s": "1000.0",
    }.items() <= {key: row[0] for key, row in rows.items()}.items()
    assert rows["limits.queue"][1] == "default"


def test_described_values_can_be_set_again():
    """The displayed values, passed as flags, give the same settings."""
    loaded = load_from(
        'server.allowed_origins=["http://localhost:3000", "*"]',
        "server.tls_cert=a b.pem",
        "timeouts.send=0.5",
    )
    flags = [f"{row.key}={row.value}" for row in describe(loaded)]
    assert loaded.settings == load_from(*flags).settings


# --- checks at startup -----------------------------------------------------------------------------


def with_(**sections):
    default = Settings()
    changed = {name: attrs.evolve(getattr(default, name), **values) for name, values in sections.items()}
    return attrs.evolve(default, **changed)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost", "LOCALHOST"])
def test_loopback_host_is_accepted(host):
    """Only this machine can reach a loopback host, so there is no objection."""
    assert problems(with_(server={"host": host})) == []
    assert cautions(with_(server={"host": host})) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "::ffff:127.0.0.1"])
def test_open_host_needs_authentication_and_tls_or_consent(host):
    """A host that others can reach is refused with advice, unless the owner accepts the risk."""
    (problem,) = problems(with_(server={"host": host}))
    assert f'server.host = "{host}"' in problem
    for word in ("auth.mode", "server.tls_cert", "server.insecure = true", "127.0.0.1"):
        assert word in problem
    accepted = with_(server={"host": host, "insecure": True})
    assert problems(accepted) == []
    (caution,) = cautions(accepted)
    assert host in caution


def test_authentication_and_tls_are_both_needed():
    """Either one alone is not enough for an open host; both together are."""
    auth = {"mode": "token"}
    tls = {"tls_cert": "cert.pem", "tls_key": "key.pem"}
    (about_tls,) = [p for p in problems(with_(server={"host": "::"}, auth=auth)) if "host" in p]
    assert "without TLS" in about_tls
    (about_auth,) = [p for p in problems(with_(server={"host": "::"} | tls)) if "host" in p]
    assert "without authentication (auth.mode)." in about_auth
    assert not [p for p in problems(with_(server={"host": "::"} | tls, auth=auth)) if "host" in p]


@pytest.mark.parametrize(("given", "absent"), [("cert", "key"), ("key", "cert")])
def test_certificate_without_key_is_refused(given, absent):
    """One of the two files alone is refused, and the other is named."""
    found = problems(with_(server={f"tls_{given}": "x.pem"}))
    assert f"server.tls_{given} is set without server.tls_{absent}: set both or neither." in found


def test_shared_port_needs_shared_jobs_and_files_a_number_and_the_number_of_servers():
    """Each message says what to set."""
    everything = {
        "server": {"reuse_port": True, "processes": 2},
        "catalog": {"url": "postgresql://db/name"},
        "storage": {"url": "s3://bucket"},
    }
    assert problems(with_(**everything)) == []
    (found,) = problems(with_(server=everything["server"]))
    assert "set catalog.url (PostgreSQL) and storage.url (an object store), the same for each" in found
    (found,) = problems(with_(**everything | {"storage": {}}))
    assert "set storage.url" in found
    (found,) = problems(with_(**everything | {"server": {"reuse_port": True, "processes": 2, "port": 0}}))
    assert "set server.port" in found
    (found,) = problems(with_(**everything | {"server": {"reuse_port": True}}))
    assert "needs server.processes" in found


def test_servers_of_one_machine_divide_its_cores_and_memory(monkeypatch):
    """What is set explicitly is not divided, and each server has a worker."""
    cores = len(os.sched_getaffinity(0))
    assert load_from("server.processes=2").settings.processing.workers == max(1, cores // 2)
    assert load_from("server.processes=1000").settings.processing.workers == 1
    loaded = load_from("server.processes=2", "processing.workers=5").settings
    assert loaded.processing.workers == 5
    monkeypatch.setattr(machine, "machine_memory", lambda: 1000)
    assert machine.server_memory(Settings()) == 800
    assert (machine.server_memory(loaded), machine.worker_memory(loaded)) == (400, 80)
    limits = ("limits.memory_bytes=30", "processing.worker_memory_bytes=3")
    loaded = load_from("server.processes=2", *limits).settings
    assert (machine.server_memory(loaded), machine.worker_memory(loaded)) == (30, 3)


def test_dask_engine_needs_a_scheduler_and_all_tls_files_or_none():
    """Each message names the setting that is missing."""
    dask = {"engine": "dask", "dask_scheduler": "tls://x:8786"}
    assert problems(with_(processing=dask)) == []
    (found,) = problems(with_(processing={"engine": "dask"}))
    assert "needs processing.dask_scheduler" in found
    (found,) = problems(with_(processing=dask | {"dask_ca": "ca.pem"}))
    assert "processing.dask_cert and processing.dask_key" in found


def test_dask_engine_without_its_package_is_refused_with_the_command_that_installs_it(monkeypatch):
    """The extra is optional."""
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    (found,) = problems(with_(processing={"engine": "dask", "dask_scheduler": "tls://x:8786"}))
    assert 'pip install "creemson[dask]"' in found


def test_origin_wildcard_is_accepted_with_a_warning():
    """The origin `*` may be used and gives a warning."""
    chosen = with_(server={"allowed_origins": ("*",)})
    assert problems(chosen) == []
    (caution,) = cautions(chosen)
    assert "server.allowed_origins" in caution


def test_default_settings_are_accepted():
    """A server without configuration starts without warnings."""
    assert (problems(Settings()), cautions(Settings())) == ([], [])


# --- the reference page ------------------------------------------------------------------------------


def test_reference_page_lists_every_setting():
    """The page has exactly one row per setting, with the default and help from the code."""
    page = (Path(__file__).parents[2] / "docs/reference/settings.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    expected = []
    for row in describe(Loaded(Settings(), dict.fromkeys(FIELDS, "default"))):
        default = f"`{row.value}`" if row.value else "–"
        if row.key == "processing.workers":
            default = "usable cores"
        expected.append(f"| `{row.key}` | {default} | {row.help} |")
    assert expected == rows


def test_described_rows_convert_to_json():
    """A row has field names, so `config --json` needs no list of its own."""
    first = describe(load_from())[0]
    assert {"key", "value", "origin", "help"} == set(json.loads(json.dumps(first._asdict())))
    assert Server().host == first.value
