from tests.prompts.conftest import base_model as base_model
from tests.prompts.conftest import chatml as chatml
from tests.prompts.conftest import demo_tokenizer as demo_tokenizer
from tests.prompts.conftest import llama3 as llama3
from tests.prompts.conftest import make_tokenizer as make_tokenizer
