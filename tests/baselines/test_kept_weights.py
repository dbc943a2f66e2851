"""Comparisons notice that a pretrained model is another under the same name."""

import pytest

from baselines import compare
from tests.tiegym.runs.test_same_inputs import change
from tests.tiegym.small import SMALL
from tests.tiegym.test_pretrained_models import save


def test_kept_runs_of_a_comparison_notice_other_weights(tmp_path, capsys, in_process):
    model, folder = save(tmp_path / "model", "gpt2"), tmp_path / "model"
    given = SMALL | {"model": f"hf:{folder}", "max_iters": 2}
    arguments = ["tied", "--seeds", "1", "--runs-dir", str(tmp_path / "runs"), "--quiet"]
    arguments += [f"--env.{name.replace('_', '-')}={value}" for name, value in given.items()]
    compare.main(arguments)
    first = capsys.readouterr().out
    compare.main(arguments)
    assert capsys.readouterr().out == first
    change(model, folder)
    for more in ([], ["--stale", "keep"]):
        with pytest.raises(SystemExit) as ended:
            compare.main([*arguments, *more])
        assert ended.value.code == 2
        assert "their pretrained model was another" in capsys.readouterr().err
    compare.main([*arguments, "--stale", "rerun"])
    assert capsys.readouterr().out != first
