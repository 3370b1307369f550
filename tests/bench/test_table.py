"""The table says whether each goal is met, and warns of unreliable figures."""

from bench.table import lines, warnings


def test_the_best_of_several_stands_beside_the_floor_and_the_goal() -> None:
    runs = {
        "fan-out": {
            "floor": [{"µs per delivery": 4.0}],
            "hubbub": [{"µs per delivery": 6.0}, {"µs per delivery": 5.0}],
        }
    }

    assert lines(runs)[2].split() == [
        "fan-out", "µs", "per", "delivery", "hubbub", "5", "2", "4", "1.25", "<=", "1.25", "*",
        "floor", "yes",
    ]  # fmt: skip


def test_a_goal_that_is_missed_says_so() -> None:
    assert lines({"idle": {"hubbub": [{"KiB per connection": 44.0}]}})[1].endswith("NO")


def test_a_goal_beside_the_floor_is_not_judged_without_it() -> None:
    [_, line] = lines({"fan-out": {"hubbub": [{"µs per delivery": 5.0}]}})

    assert line.endswith("floor")


def test_a_ratio_is_the_middle_of_several() -> None:
    runs = {"stalled": {"hubbub": [{"others' p99, ratio": each} for each in (0.5, 1.05, 2.0)]}}

    assert "1.05" in lines(runs)[1]


def test_what_failed_leaves_no_line() -> None:
    assert len(lines({"idle": {"floor": [], "hubbub": []}})) == 1


def test_a_server_that_was_disturbed_is_named() -> None:
    runs = {"burst": {"hubbub": [{"µs per delivery": 5.0, "disturbed, %": 40.0}]}}

    [warning] = warnings(runs)

    assert warning.startswith("burst, hubbub: something else used the server's core")
    assert len(lines(runs)) == 2
