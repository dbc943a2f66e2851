"""The table of primary comparisons: who is in it, beside what, and who wins."""

import pytest

from baselines import primary_table
from tests.tiegym.analysis.made_up import make_row
from tiegym.analysis.comparison import judge
from tiegym.pictures.forest import plot_forest

NOISE = (0.0, 0.01, -0.01, 0.02, -0.02, 0.0)


def losses(mean, spread=1.0):
    return [mean + spread * each for each in NOISE]


def judged_beside(*agents, chance=2.0):
    return judge(
        [
            *agents,
            make_row(losses(chance), "random", "random_tying", protocol="none"),
            make_row(losses(1.9, -1.0), "random-fixed", "random_fixed", protocol="none"),
            make_row(losses(1.8, 0.5), "cycle:2", "fixed-cycle:2", protocol="none"),
            make_row(losses(1.7, 0.5), "shallow:2", "shallow-2", protocol="none", n_layer=2),
        ]
    )


def cells(agent, chance=2.0):
    lines = primary_table.markdown(judged_beside(agent, chance=chance)).splitlines()
    assert len(lines) == 3  # who doesn't learn isn't in it
    return [cell.strip() for cell in lines[2].split("|")[1:-1]]


@pytest.mark.parametrize(
    ("mean", "chance", "won"),
    [
        (1.5, 2.0, "yes"),
        (1.75, 2.0, "yes"),  # over the pattern, if not over the untied transformer
        (1.85, 2.0, "no"),
        (1.799, 2.0, "no"),
        (1.75, 1.6, "no"),  # over the pattern, but chance is better still
        (2.5, 2.0, "no"),
    ],
)
def test_who_is_better_than_chance_and_than_the_best_pattern_wins(mean, chance, won):
    found = cells(make_row(losses(mean), "maskable_ppo", "maskable_ppo"), chance)
    assert found[0] == "maskable_ppo"
    assert found[3] == f"{mean:.4f}"
    assert found[-1] == won


def test_differences_stand_beside_the_names_of_what_they_are_over():
    found = cells(make_row(losses(1.5), "maskable_ppo", "maskable_ppo"))
    over = {"random": -0.5, "random-fixed": -0.4, "cycle:2": -0.3, "shallow:2": -0.2}
    for cell, (name, difference) in zip(found[4:8], over.items(), strict=True):
        assert cell.startswith(f"{difference:+.4f} [")
        assert cell.endswith(f"]* {name}")


def test_without_a_pattern_of_its_size_nobody_wins():
    found = cells(make_row(losses(1.5), "maskable_ppo", "maskable_ppo", n_independent=4))
    assert found[-3:] == ["", "", ""]


def test_the_picture_has_a_row_for_each_who_learns_and_has_all_references(tmp_path, monkeypatch):
    drawn = {}

    def plot(panels, what, path, beside_first):
        drawn.update(panels)
        assert not beside_first
        plot_forest(panels, what, path, beside_first)

    monkeypatch.setattr(primary_table, "plot_forest", plot)
    agent = make_row(losses(1.5), "maskable_ppo", "maskable_ppo")
    large = make_row(losses(1.5), "large", "dqn", n_independent=4)  # no pattern is as large
    assert primary_table.draw(judged_beside(agent, large), tmp_path / "primary.png")
    assert (tmp_path / "primary.png").read_bytes().startswith(b"\x89PNG")
    assert [[e.name for e in estimates] for estimates in drawn.values()] == [["maskable_ppo"]] * 3
    assert all(e.starred and e.low < e.value < e.high < 0 for (e,) in drawn.values())
    assert not primary_table.draw(judged_beside(large), tmp_path / "none.png")
