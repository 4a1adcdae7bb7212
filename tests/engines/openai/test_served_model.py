"""What a server says about its model, which is untrusted text."""

from batchgen.engines.openai.served_model import ServerAccess
from batchgen.engines.openai.transport.base_url import parse_base_url
from tests.engines.openai.fake_server import serving


def test_texts_that_no_file_can_contain_are_replaced() -> None:
    model = {"id": "a\ud800b", "root": ["\udfff"], "meta": {"ftype": "q\ud800"}}
    with serving(models={"data": [model]}, version="1\ud800") as server:
        found = (
            ServerAccess("")
            .find_model([parse_base_url(server.url)], None, lambda _: None)
            .first.model
        )
    for text in (found.name, *found.identity().values()):
        assert str(text).encode()
    assert found.name.startswith("a")
