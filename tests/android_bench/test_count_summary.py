from fd_keras.android_bench.count_summary import kernels, millions, summarize_counts


def test_ratios_are_computed_within_a_core(make_count_row, make_row):
    rows = [
        make_count_row("b", instructions=300),
        make_count_row("a", instructions=200),
        make_count_row("b", instructions=100, device="cortex-a76"),
        make_row("a", [1]),
    ]
    summary = summarize_counts(rows, "a_float32")
    assert [(line["device"], line["model"], line["ratio"]) for line in summary] == [
        ("cortex-a53", "a", 1.0),
        ("cortex-a53", "b", 1.5),
        ("cortex-a76", "b", None),
    ]


def test_counts_that_did_not_stabilize_are_reported(make_count_row):
    (line,) = summarize_counts([make_count_row("a", flags=["the count of loads did not stabilize"])])
    assert line["doubtful"]
    assert line["flags"] == ["the count of loads did not stabilize"]


def test_kernels_are_identified_by_their_instructions(make_count_row):
    cases = {(0, 0): "NEON", (5, 0): "dot product", (5, 5): "i8mm"}
    for (dot, matmul), name in cases.items():
        assert kernels(make_count_row("a", dot=dot, matmul=matmul).details.counts) == name


def test_millions_are_shown_with_three_digits():
    assert [millions(count) for count in (0, 12_345, 1_234_567, 12_345_678, 123_456_789)] == [
        *("0.000", "0.012", "1.23", "12.3", "123"),
    ]
