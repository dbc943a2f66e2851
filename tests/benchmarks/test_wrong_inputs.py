"""What is wrong with a benchmark's input is said in one line, without a traceback."""

import importlib

import pytest

WRONG = [
    ("core", "--repeats 1", "repeats=1 must be at least 2"),
    ("scaling", "--depths 6 1", r"depths=(6, 1) must be at least 2"),
    ("features", "--seeds 0", "seeds=0 must be at least 1"),
    ("data_parallel", "--repeats -1", "repeats=-1 must be at least 2"),
    ("population", "--members 0", "members=(0,) must be at least 1"),
    ("population", "--members", "members=() must be at least 1"),
    ("paper_scale", "--n-layer 0", "n_layer=0 must be at least 1"),
    ("paper_scale", "--dropout 1", "dropout=1.0 must be in [0, 1)"),
    ("paper_memory", "--dropout nan", "dropout=nan must be in [0, 1)"),
    ("many_runs", "--tasks -1", "tasks=-1 must be at least 0"),
    ("data_parallel", "--repeats 1", "repeats=1 must be at least 2"),
    ("data_parallel", "--batch-size 7", "batch_size=7 must be even"),
    ("population", "--patterns 204", "patterns=204 must be at most 203"),
    ("paper_scale", "--device tpu", "device='tpu' must be auto, cpu"),
    ("__main__", "--device tpu", "device='tpu' must be auto, cpu"),
    ("core", "--device tpu", "device='tpu' must be auto, cpu"),
    ("throughput", "--corpus /nowhere", "corpus='/nowhere': there is no such file or folder"),
    ("compressed_cost", "--n-embd 0", "n_embd=0 must be at least 1"),
    ("data_parallel", "--corpus /nowhere", "corpus='/nowhere': there is no such file or folder"),
    ("population", "--corpus /nowhere", "corpus='/nowhere': there is no such file or folder"),
    ("side_tuning", "--pattern odd", "unknown tying pattern 'odd'"),
]


@pytest.mark.parametrize(("program", "args", "message"), WRONG, ids=lambda value: str(value)[:20])
def test_wrong_input_is_one_line(program, args, message, capsys):
    module = importlib.import_module(f"benchmarks.{program}")
    with pytest.raises(SystemExit) as stopped:
        module.main(args.split())
    assert stopped.value.code == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert message in said
    assert "Traceback" not in said
