import pytest

from tiegym.runs.input_errors import DamagedFile, InputError, as_input_errors


@pytest.mark.parametrize("error", [ValueError("K=0"), FileNotFoundError(2, "no such file", "a")])
def test_what_the_input_caused_keeps_its_message_and_its_cause(error):
    with pytest.raises(InputError) as caught, as_input_errors():
        raise error
    assert str(caught.value) == str(error)
    assert caught.value.__cause__ is error


def test_input_errors_pass_as_they_are():
    with pytest.raises(DamagedFile, match="cut off"), as_input_errors():
        raise DamagedFile("cut off")


def test_what_isnt_named_passes():
    with pytest.raises(PermissionError), as_input_errors(ValueError):
        raise PermissionError
