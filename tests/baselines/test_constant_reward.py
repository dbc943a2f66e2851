"""What the paper's agent does when its reward says nothing."""

import copy
import json

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from agents.qlearning import QLearning
from baselines import constant_reward
from baselines.constant_reward import ConstantRewardEnv, Options, Task, chances, run, tasks_of
from tests.tiegym.small import SMALL
from tiegym import TieEnv, ties
from tiegym.runs.input_errors import InputError


def decisions(env, steps, first_weights=None, **options):
    """The actions of an agent, what it was given for them, and its first weights."""
    found = []
    step = env.step

    def recorded(action):
        result = step(action)
        found.append((int(action), result[1]))
        return result

    env.step = recorded
    agent = QLearning("LayerPolicy", env, seed=0, device="cpu", **options)
    # SB3 makes a network before ours, whose size draws more or fewer random numbers.
    agent.q_net.load_state_dict(first_weights or agent.q_net.state_dict())
    first_weights = copy.deepcopy(agent.q_net.state_dict())
    agent.learn(steps)
    return [action for action, _ in found], [reward for _, reward in found], first_weights


def test_it_passes_gymnasiums_check():
    check_env(ConstantRewardEnv(5, 20), skip_render_check=True)


@pytest.mark.parametrize("bootstrap", ["next-layer", "same-layer"])
def test_under_the_clip_a_transformer_makes_no_difference(bootstrap):
    steps = 40
    settings = SMALL | {"n_layer": 5, "max_iters": 2 * steps, "iters_per_step": 2}
    real = TieEnv(**settings, action="layerwise", initial_ties="tied", reward="neg_ppl")
    clipped = {"reward_clip": 10.0, "bootstrap": bootstrap}
    actions, rewards, weights = decisions(real, steps, **clipped)
    assert max(rewards) < -10
    assert decisions(ConstantRewardEnv(5, steps), steps, weights, **clipped)[0] == actions
    smaller = clipped | {"reward_clip": 1e-3}
    assert decisions(ConstantRewardEnv(5, steps), steps, weights, **smaller)[0] != actions


def test_a_run_is_of_the_agent_as_it_is_asked_for_with_the_papers_values(tmp_path, monkeypatch):
    made = []

    class Noted(QLearning):
        def learn(self, *args, **kwargs):
            made.append((self.bootstrap, self.seed, self.gamma, self.epsilon_decay))
            made.append((self.epsilon_floor, self.learning_rate, self.reward_clip))
            return super().learn(*args, **kwargs)

    monkeypatch.setattr(constant_reward, "QLearning", Noted)
    constant_reward.count(Task(3, "same-layer", 7, 2, tmp_path))
    assert made == [("same-layer", 7, 0.99, 0.95), (0.01, 1e-3, None)]


def test_chances_are_those_of_uniform_draws():
    every = [(0, a, b, c) for a in range(2) for b in range(3) for c in range(4)]
    sizes = np.bincount([ties.n_independent(np.array(v)) for v in every], minlength=5)
    np.testing.assert_allclose(chances(4), sizes / len(every))
    assert chances(48) @ np.arange(49) == pytest.approx(ties.expected_independent(48))


def test_what_is_counted_is_what_the_ties_say():
    env = ConstantRewardEnv(4, 6)
    env.reset(seed=0)
    for action in (3, 0, 3, 0, 2, 1):
        observation, reward, terminated, _, _ = env.step(action)
        assert reward == -10
        assert ties.n_independent(observation["ties"]) == env.counted[-1]
    assert env.counted == [2, 2, 3, 2, 3, 2]
    assert observation["ties"].tolist() == [0, 0, 2, 1]
    assert terminated


def test_runs_are_kept_and_the_table_is_of_them(tmp_path, monkeypatch):
    options = Options(n_layer=(3, 4), sweeps=3, seeds=2, runs_dir=tmp_path)
    text = run(options)
    files = sorted(tmp_path.iterdir())
    assert len(files) == len(tasks_of(options)) == 8
    monkeypatch.setattr(constant_reward, "count", None)  # nothing more is run
    assert run(options) == text
    rows = [line.split(" | ") for line in text.splitlines()[2:]]
    assert [row[0] for row in rows] == ["| 3", "| 3", "| 4", "| 4"]
    assert [row[3] for row in rows] == ["1.83"] * 2 + ["2.08"] * 2
    cell = [task for task in tasks_of(options) if task.file.name.startswith("3-layers-next-layer")]
    kept = [json.loads(task.file.read_text()) for task in cell]
    assert rows[0][4] == ", ".join(str(end) for end in sorted(each["end"] for each in kept))
    assert rows[0][2].startswith(f"{np.mean([each['last_tenth'] for each in kept]):.2f} [")
    files[0].write_text("{}")
    with pytest.raises(InputError, match=r"is damaged .*: remove it to run it again"):
        run(options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-layer", "1"], "n_layer=(1,) must be at least 2"),
        (["--n-layer", "4", "4"], "n_layer=(4, 4) must have each number once"),
        (["--seeds", "1"], "seeds=1 must be at least 2"),
        (["--sweeps", "0"], "sweeps=0 must be at least 1"),
        (["--workers", "0"], "workers=0 must be at least 1"),
        (["--runs-dir", "/dev/null/x"], "runs_dir='/dev/null/x' can't be used"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        constant_reward.main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
