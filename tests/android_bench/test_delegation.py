"""Messages that prove the delegation of a model, in the output of TensorFlow 1.14 to LiteRT 2."""

import pytest

from fd_keras.android_bench.delegation import check_delegation, describe, ops_taken
from fd_keras.android_bench.errors import BenchError

XNNPACK = "Replacing 31 out of 31 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions."
COMPILED = "Partitioned subgraph<0>, selected {} ops, from a total of 31 ops. resulted in {} partitions."
WHOLE = "Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate."
PART = "{} delegate, and the model graph will be partially executed by the delegate w/ 7 delegate kernels."
SOME = "20 operations will run on the GPU, and the remaining 11 operations will run on the CPU."
REPLACING = "Replacing {} node(s) with delegate ({}) node, yielding {} partitions"


@pytest.mark.parametrize(
    ("delegate", "lines", "words"),
    [
        ("gpu", [WHOLE], "all ops"),
        ("gpu", ["Applied GPU delegate, and the model graph will be completely executed w/ the delegate."], "all ops"),
        ("gpu", [REPLACING.format("31 out of 31", "TfLiteGpuDelegateV2", 1) + " for the whole graph."], "31 of 31 ops"),
        ("gpu", [REPLACING.format("20 out of 31", "LITERT_CL", 7) + " for subgraph 0 ()."],
         "20 of 31 ops, 7 partitions"),
        ("gpu", [REPLACING.format("31", "TfLiteGpuDelegateV2", 1) + "."], "31 of 31 ops"),
        ("gpu", [REPLACING.format("20", "TfLiteGpuDelegateV2", 7) + "."], "20 of ? ops, 7 partitions"),
        ("gpu", [SOME, PART.format("Explicitly applied GPU")], "20 of 31 ops, 7 kernels"),
        ("gpu", [PART.format("Explicitly applied GPU")], "part of the ops, 7 kernels"),
        ("gpu", ["Created 1 GPU delegate kernels."], "? ops, 1 kernel"),
        ("gpu", ["First 20 operations will run on the GPU, and the remaining 11 on the CPU.", "Applied GPU delegate."],
         "20 of 31 ops"),
        ("gpu", [REPLACING.format("20 out of 31", "TfLiteGpuDelegateV2", 3), XNNPACK], "20 of 31 ops, 3 partitions"),
        ("gpu", [REPLACING.format("5 out of 5", "LITERT_GL", 1) + " for subgraph 0.",
                 REPLACING.format("3 out of 4", "LITERT_GL", 2) + " for subgraph 1."], "8 of 9 ops, 3 partitions"),
        ("gpu", [REPLACING.format("31 out of 31", "TfLiteGpuDelegateV2", 1), XNNPACK,
                 "Restored original execution plan after delegate application failure."], "31 of 31 ops"),
        ("npu", [COMPILED.format(31, 1), REPLACING.format("1 out of 1", "DispatchDelegate", 1) + " for subgraph 0 ()."],
         "31 of 31 ops"),
        ("npu", [COMPILED.format(29, 2), REPLACING.format("2 out of 3", "DispatchDelegate", 3) + " for subgraph 0 ().",
                 REPLACING.format("1 out of 3", "TfLiteXNNPackDelegate", 3)], "29 of 31 ops, 3 partitions"),
        ("npu", [REPLACING.format("1 out of 1", "DispatchDelegate", 1)], "1 of 1 ops"),  # compiled ahead of time
        ("gpu", [REPLACING.format("66 out of 66", "LITERT_OPENGL", 1)], "66 of 66 ops"),
        ("nnapi", ["NNAPI accelerators available: [npu,nnapi-reference]", PART.format("Explicitly applied NNAPI")],
         "part of the ops, 7 kernels"),
        ("xnnpack", [XNNPACK], "31 of 31 ops"),
        ("xnnpack", [PART.format("Explicitly applied XNNPACK")], "part of the ops, 7 kernels"),
    ],
)  # fmt: skip
def test_proof_of_delegation_is_parsed(delegate, lines, words):
    assert describe(check_delegation(lines, delegate).to_json()) == words


@pytest.mark.parametrize(
    ("delegate", "lines", "reason"),
    [
        ("gpu", [], "nothing in the tool's output shows"),
        ("gpu", ["GPU acceleration is unsupported on this platform."], "unsupported on this platform; use --delegates"),
        ("gpu", ["GPU acceleration is unsupported on this platform.", "XNNPACK delegate created.", XNNPACK], "unsupp"),
        ("gpu", ["GPU acceleration is unsupported on this platform.", WHOLE], "unsupported"),
        ("gpu", ["ERROR: could not create delegate"], "could not create delegate"),
        ("gpu", ["Though GPU delegate is explicitly applied, the model graph will not be executed by the delegate."],
         "will not be executed"),
        ("gpu", ["Created TensorFlow Lite delegate for GPU.", "GPU delegate created."], "nothing in the tool's output"),
        ("gpu", [XNNPACK], "nothing in the tool's output"),
        ("gpu", [PART.format("Explicitly applied XNNPACK")], "nothing in the tool's output"),
        ("gpu", [SOME, "Failed to compile model"], "nothing in the tool's output"),
        ("gpu", ["First 0 operations will run on the GPU, and the remaining 81 on the CPU.", "Applied GPU delegate."],
         "First 0 operations"),
        ("gpu", [REPLACING.format("0 out of 31", "TfLiteGpuDelegateV2", 1)], "Replacing 0 out of 31"),
        ("gpu", ["Applied GPU delegate."], "nothing in the tool's output"),
        ("gpu", [REPLACING.format("31 out of 31", "TfLiteGpuDelegateV2", 1), "Created 1 GPU delegate kernels.",
                 "Restored original execution plan after delegate application failure."],
         "nothing in the tool's output"),
        ("npu", ["NPU accelerator registered.", XNNPACK], "nothing in the tool's output"),
        ("npu", ["No dispatch library found in /data/local/tmp/x", XNNPACK], "No dispatch library found"),
        ("npu", ["NPU accelerator could not be loaded and registered: kLiteRtStatusErrorInvalidArgument.", XNNPACK],
         "could not be loaded"),
        ("npu", [COMPILED.format(31, 1), XNNPACK], "nothing in the tool's output"),  # compiled, but not delegated
        ("npu", [REPLACING.format("0 out of 1", "DispatchDelegate", 1)], "Replacing 0 out of 1"),
        ("npu", [REPLACING.format("1 out of 1", "DispatchDelegate", 1),
                 "Failed to create a dispatch delegate kernel: No usable Dispatch runtime found"], "No usable"),
        ("gpu", ["GPU accelerator could not be loaded and registered.", XNNPACK], "could not be loaded"),
        ("nnapi", ["NNAPI accelerators available: [nnapi-reference]",
                   REPLACING.format("9 out of 9", "TfLiteNnapiDelegate", 1)],
         "nnapi-reference"),
        ("nnapi", ["NNAPI acceleration is unsupported on this platform."], "unsupported"),
        ("xnnpack", ["Failed to apply XNNPACK delegate."], "Failed to apply"),
        ("xnnpack", ["Though XNNPACK delegate is applied, the model graph will not be executed by the delegate."],
         "will not be executed"),
    ],
)  # fmt: skip
def test_missing_proof_of_delegation_is_an_error_with_advice(delegate, lines, reason):
    with pytest.raises(BenchError, match=reason) as raised:
        check_delegation(lines, delegate)
    assert "would run on the CPU" in str(raised.value)
    assert "use --delegates=xnnpack" in str(raised.value)


def test_xnnpack_needs_no_proof_and_none_must_not_delegate():
    assert check_delegation([], "xnnpack") is None
    assert check_delegation([], "none") is None
    with pytest.raises(BenchError, match="--delegates=none, but TfLiteXNNPackDelegate took 31 ops"):
        check_delegation([XNNPACK], "none")


def test_an_unknown_delegation_has_an_empty_description():
    assert (describe({}), ops_taken({})) == ("", "")


def test_partial_delegation_is_shown_everywhere(bench, phone, tmp_path, capsys):
    phone.fake(proof=f"{SOME}\n{REPLACING.format('20 out of 31', 'TfLiteGpuDelegateV2', 7)}.\n")
    assert bench("--delegates=gpu", "--repeats=0") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split()[:5] == ["model", "recipe", "threads", "ops", "parts"]
    assert "20 of 31" in out
    assert "gpu takes 20 of 31 ops, 7 partitions; the rest runs on the CPU" in err
    page, markdown, csv = ((tmp_path / f"out/report.{suffix}").read_text() for suffix in ("html", "md", "csv"))
    for text in (page, markdown):
        assert "GPU for part of the ops" in text
        assert "20 of 31" in text
    assert "20 of 31" in csv
    assert "delegation_partitions" in csv


def test_cpu_times_are_never_reported_as_gpu(bench, phone, tmp_path, capsys):
    phone.fake(proof="GPU acceleration is unsupported on this platform.\n")
    assert bench("--delegates=gpu", "--repeats=0") == 1
    assert "GPU acceleration is unsupported on this platform; use --delegates=xnnpack" in capsys.readouterr().err
    assert not (tmp_path / "out/rows.jsonl").read_text()


def test_an_npu_gets_the_vendors_libraries_and_must_run_the_model(bench, phone, tmp_path, capsys):
    libraries, known = tmp_path / "libraries", "graph num_threads use_cpu use_gpu use_npu dispatch_library_path"
    libraries.mkdir()
    (libraries / "libVendor.so").write_text("vendor")
    phone.fake(help="".join(f"--{name}=x\n" for name in (*known.split(), "compiler_plugin_library_path")))
    npu = ["--delegates=npu", f"--libraries={libraries}", "--repeats=0"]
    assert bench(*npu) == 2
    assert "no libLiteRtDispatch*.so" in capsys.readouterr().err
    (libraries / "libLiteRtDispatch_Vendor.so").write_text("dispatch")
    assert bench(*npu) == 1
    assert "takes no ops of this model" in capsys.readouterr().err
    phone.fake(proof=f"{COMPILED.format(31, 1)}\n{REPLACING.format('1 out of 1', 'DispatchDelegate', 1)}\n")
    assert bench(*npu) == 0
    assert "NPU" in (tmp_path / "out/report.md").read_text()
    (dispatch,) = (phone.root / "data/local/tmp/android_bench").rglob("libLiteRtDispatch_Vendor.so")
    folder = dispatch.parent
    assert (folder / "libVendor.so").read_text() == "vendor"
    where = f"/data/local/tmp/android_bench/{folder.name}"
    (_, arguments) = phone.calls()[-1]
    assert f"--use_npu=true --dispatch_library_path={where}" in arguments
    assert "compiler_plugin_library_path" not in arguments  # no such library in the folder
    log = next((tmp_path / "out/logs").rglob("*.txt")).read_text()
    assert f"env LD_LIBRARY_PATH={where} ADSP_LIBRARY_PATH={where} " in log


def test_a_tool_without_npu_support_is_rejected_with_advice(bench, tmp_path, capsys):
    (tmp_path / "libLiteRtDispatch_Vendor.so").write_text("dispatch")
    assert bench("--delegates=npu", f"--libraries={tmp_path}") == 2
    assert "has no --use_npu; try --fetch_binary=litert" in capsys.readouterr().err
