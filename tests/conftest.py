"""What all tests share."""

import os

# One thread for sizes as small as those of tests: more cost what they save, and more than that
# where tests run side by side. Before PyTorch is loaded, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Whatever a test sets, the next one has a single thread again."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


DRAWN = {}
"""Images that a run has given TensorBoard, by what drew them and the sizes of what they show."""


@pytest.fixture(autouse=True)
def images_are_drawn_once(monkeypatch):
    """An image of a run is drawn once for each of its sizes, and then taken again.

    To draw one takes longer than a small run trains. The tests of images have a fixture of this
    name that does nothing.
    """
    from tiegym.runs import tensorboard_log

    add_images = tensorboard_log.add_images

    def once(draw):
        def drawn(figures, *more):
            key = (draw, np.shape(figures), bool(np.isfinite(figures).all()), *more[1:])
            if key not in DRAWN:
                DRAWN[key] = draw(figures, *more)
            return DRAWN[key]

        return drawn

    def add(*arguments):
        from tiegym.pictures import tie_film

        with pytest.MonkeyPatch.context() as patch:
            for name in ("draw_film", "draw_similarity"):
                patch.setattr(tie_film, name, once(getattr(tie_film, name)))
            add_images(*arguments)

    monkeypatch.setattr(tensorboard_log, "add_images", add)


@pytest.fixture(scope="session")
def tree_file(tmp_path_factory):
    """A table of 3 layers and 2 sweeps: seeds 0 and 1 are train, seed 2 is held-out."""
    from tests.tiegym.bench.conftest import options
    from tiegym.bench.make import make

    return make(options(tmp_path_factory.mktemp("tables"), "tree-3x2-tiny-owner"))


@pytest.fixture(scope="session")
def patterns_file(tmp_path_factory):
    """A table of all fixed sharings of 3 layers."""
    from tests.tiegym.bench.conftest import options
    from tiegym.bench.make import make

    return make(options(tmp_path_factory.mktemp("tables"), "patterns-3-tiny-sum", seeds=1))
