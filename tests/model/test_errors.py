from model.errors import EngineError


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [error.code for error in EngineError.__subclasses__()]
    assert len(codes) == 6
    assert len(set(codes)) == len(codes)
