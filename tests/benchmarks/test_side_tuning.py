from benchmarks import side_tuning


def test_a_side_network_keeps_less_for_the_backward_pass_than_the_other_ways(capsys):
    side_tuning.run(
        side_tuning.Options(
            n_layer=3, n_embd=32, block_size=16, reduction=4, repeats=2, device="cpu"
        )
    )
    lines = capsys.readouterr().out.strip().splitlines()[-3:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[0] for row in rows] == ["all of it", "norms-only", "ladder"]
    trained, state, kept = ([int(row[k].replace(",", "")) for row in rows] for k in (1, 3, 4))
    assert trained[1] < trained[2] < trained[0]
    assert state[1] < state[2] < state[0]
    assert kept[2] < kept[1] <= kept[0]
    assert float(rows[0][6]) == 1
