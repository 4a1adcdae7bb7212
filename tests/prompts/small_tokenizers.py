"""Small tokenizers of several kinds, made without a file."""

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

SPECIAL = ("<s>", "</s>", "<unk>", "[/INST]", "<|eom|>")
WORDS = ("▁def", "▁foo", "():", "▁▁▁▁", "return", "▁", "1", "▁is", "▁red", "red", "x", "=", "▁yes")
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))


def _finished(backend: Tokenizer, template: str | None = None) -> PreTrainedTokenizerBase:
    backend.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call] # transformers has no types here
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=template,
    )


def sentencepiece(*, metaspace: bool, template: str | None = None) -> PreTrainedTokenizerBase:
    """A BPE with byte fallback: of Llama 2 (a normalizer and a strip), or with Metaspace as in newer conversions."""
    pieces = [*SPECIAL, *BYTES, *WORDS, *"defonturyslabc():x=1"]
    vocab = {piece: n for n, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(
        models.BPE(
            vocab=vocab, merges=[], byte_fallback=True, unk_token="<unk>", ignore_merges=True
        )
    )
    bytes_to_text = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if metaspace:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        backend.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")]
        )
    else:
        backend.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        backend.decoder = decoders.Sequence([*bytes_to_text, decoders.Strip(" ", 1, 0)])
    return _finished(backend, template)


def byte_level() -> PreTrainedTokenizerBase:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: n for n, c in enumerate([*alphabet, "Ġis", "Ġred", "Ġyes"])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return _finished(backend)


def word_piece() -> PreTrainedTokenizerBase:
    vocab = {w: n for n, w in enumerate(["<unk>", "red", "is", "##ness", "foo", "(", ")", "the"])}
    backend = Tokenizer(models.WordPiece(vocab=vocab, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(cleanup=False)
    return _finished(backend)


def ids_of(tokenizer: PreTrainedTokenizerBase, *pieces: str) -> list[int]:
    """Token ids of tokens by their names; of a character without a token, those of its bytes."""
    found: list[int] = []
    for piece in pieces:
        known = piece in tokenizer.get_vocab()
        names = [piece] if known else [f"<0x{byte:02X}>" for byte in piece.encode()]
        found += [tokenizer.get_vocab()[name] for name in names]
    return found
