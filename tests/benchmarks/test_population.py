from benchmarks import population


def test_every_way_to_step_many_is_measured_in_turn(capsys):
    options = population.Options(
        members=(2,), widths=(16,), block_size=8, batch_size=2, rounds=2, processes=1, patterns=2
    )
    population.run(options)
    rates, patterns = capsys.readouterr().out.split("\n\n| ratio")
    row = rates.splitlines()[-1].split("|")
    assert [cell.strip() for cell in row[1:3]] == ["16", "2"]
    assert all(float(cell) > 0 for cell in row[3:7])
    assert "2 fixed sharings of width 16, alone / together" in patterns
