from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from matplotlib.image import imread
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

import tiegym
from tests.tiegym.small import SMALL
from tiegym.runs import tensorboard_log
from tiegym.transformer.layer_stats import layer_similarity, sample_weights


@pytest.fixture(autouse=True)
def images_are_drawn_once():
    """Here each is drawn."""


def make():
    return gymnasium.make("tiegym:TieEnv-v0", **SMALL)


def run_episodes(env, count=1):
    """Unties layer by layer; returns all that the environment gave."""
    given = [env.reset(seed=3)]
    for _ in range(count):
        env.reset()
        done = False
        while not done:
            given.append(env.step(3))
            done = given[-1][2]
    return given


def images(folder):
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return {
        tag: [(event.step, event.encoded_image_string) for event in events.Images(tag)]
        for tag in events.Tags()["images"]
    }


def hparams_tab(folder):
    """The lines of TensorBoard's HParams tab: name of the run, its values and metrics."""
    events = EventMultiplexer().AddRunsFromDirectory(str(folder))
    events.Reload()
    provider = MultiplexerDataProvider(events, str(folder))
    backend = backend_context.Context(SimpleNamespace(data_provider=provider))
    context = RequestContext()
    tags = backend.hparams_metadata(context, "")
    experiment = backend.experiment_from_metadata(context, "", True, tags, [])
    asked = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=100,
        include_metrics=True,
        allowed_statuses=api_pb2.Status.values(),
        col_params=[api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos],
    )
    groups = list_session_groups.Handler(context, backend, "", asked).run().session_groups
    return experiment, groups


def test_the_end_of_an_episode_shows_the_film_and_the_similarity(tmp_path):
    env = tiegym.RecordRun(make(), tmp_path / "run", {"program": "example"}, total_steps=12)
    run_episodes(env, 2)
    env.close()
    shown = images(tmp_path / "run")
    assert {tag: [step for step, _ in of] for tag, of in shown.items()} == {
        "tie/film": [12, 24],  # iterations of both episodes
        "tie/similarity": [12, 24],
    }
    for of in shown.values():
        for _, png in of:
            (tmp_path / "image.png").write_bytes(png)
            assert imread(tmp_path / "image.png").std() > 0.1


def test_recording_changes_no_bit_of_a_run(tmp_path):
    recorded = tiegym.RecordRun(make(), tmp_path / "run", {}, total_steps=12)
    np.testing.assert_equal(run_episodes(recorded, 2), run_episodes(make(), 2))
    recorded.close()


@pytest.mark.parametrize(("steps", "due"), [(1, False), (64, False), (128, True), (200, False)])
def test_a_long_episode_shows_images_ever_more_seldom(steps, due):
    assert tensorboard_log.images_due(steps) is due
    assert sum(map(tensorboard_log.images_due, range(14_100))) == 7


def test_the_hparams_tab_has_every_run_with_its_options_and_final_metrics(tmp_path):
    for name, extra in (("one", {"epsilon": 0.5}), ("two", {"pattern": "tied", "ratio": None})):
        options = {"seed": 3, "quiet": True, "env": {}, **extra}
        env = tiegym.RecordRun(make(), tmp_path / name, {"program": name, "options": options})
        given = run_episodes(env)
        if name == "one":
            env.close()  # the other has not come to its end
    experiment, groups = hparams_tab(tmp_path)
    names = {info.name for info in experiment.hparam_infos}
    assert {"program", "seed", "epsilon", "pattern", "ratio", "env.n_layer"} <= names
    assert not names & {"quiet", "name", "runs_dir"}
    lines = {group.sessions[0].name: group for group in groups}
    assert lines.keys() == {"one", "two"}
    assert lines["one"].hparams["epsilon"].number_value == 0.5
    assert lines["two"].hparams["pattern"].string_value == "tied"
    assert lines["two"].hparams["ratio"].string_value == "None"
    status = {name: line.sessions[0].status for name, line in lines.items()}
    assert status == {"one": api_pb2.STATUS_SUCCESS, "two": api_pb2.STATUS_UNKNOWN}
    metrics = {value.name.tag: value.value for value in lines["two"].sessions[0].metric_values}
    assert metrics["test/perplexity"] == pytest.approx(given[-1][-1]["test_perplexity"])
    assert metrics["tie/n_independent"] == 4
    env.close()


def test_the_similarity_of_layers_is_one_where_they_share_weights():
    env = make()
    env.reset(seed=0)
    env.step(3)
    env.step(0)  # layer 1 on its own, layers 2 and 3 as layer 0
    model = env.unwrapped.model
    similarity = layer_similarity(model)
    sample = sample_weights(model).numpy()
    cosine = sample[0] @ sample[1] / np.linalg.norm(sample[0]) / np.linalg.norm(sample[1])
    assert cosine < 0.9999
    expected = np.ones((4, 4))
    expected[1, :] = expected[:, 1] = cosine
    expected[1, 1] = 1
    np.testing.assert_allclose(similarity, expected, atol=1e-5)
