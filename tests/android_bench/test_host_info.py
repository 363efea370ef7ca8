import re

from fd_keras.android_bench import host_info


def test_the_machine_is_recorded():
    environment = host_info.environment("LiteRT 1")
    assert environment["cores"] >= 1
    assert environment["device"]
    assert environment["engine"] == "LiteRT 1"
    assert re.fullmatch(r"3\.\d+\..+", environment["python"])


def test_a_machine_that_reports_nothing_has_empty_facts(monkeypatch, tmp_path):
    for name in ("_CPUINFO", "_MEMINFO", "_GOVERNOR"):
        monkeypatch.setattr(host_info, name, tmp_path / "missing")
    monkeypatch.setattr(host_info.platform, "processor", lambda: "")
    monkeypatch.setattr(host_info.platform, "machine", lambda: "")
    for name in ("getloadavg", "sched_getaffinity"):
        monkeypatch.delattr(host_info.os, name, raising=False)
    environment = host_info.environment("e")
    assert (environment["device"], environment["governor"]) == ("unknown", None)
    assert environment["cores"] >= 1
    assert host_info.load_average() is None
    assert host_info.available_memory() is None


def test_the_cpu_its_governor_and_the_memory_are_read(monkeypatch, tmp_path):
    files = {
        "_CPUINFO": "processor\t: 0\nmodel name\t: Some CPU\n",
        "_GOVERNOR": "powersave\n",
        "_MEMINFO": "MemTotal: 9 kB\nMemAvailable:       7 kB\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(host_info, name, tmp_path / name)
    environment = host_info.environment("e")
    assert (environment["device"], environment["governor"]) == ("Some CPU", "powersave")
    assert host_info.available_memory() == 7 * 1024
