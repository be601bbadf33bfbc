"""The sources of a rung's data: each is a corpus of its own, and all of them share one tokenizer."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain

from etils import epath

from ladder.config import Data, Source, canonical_json
from ladder.data import corpus, documents, seal, staging
from ladder.data import tokenizer as tokenizers
from ladder.data.corpus import Corpus
from ladder.data.documents import Texts
from ladder.data.tokens import source as token_source
from ladder.data.windows import Windows
from ladder.data_config import POSITIONS
from ladder.errors import InputError
from ladder.rundir.files import write_atomic


@dataclass(frozen=True)
class Reader:
    """How sources of one format become windows of tokens.

    build: (data of one source, seq_len, root, progress, distributions) -> its windows, built if they are not there yet.
    open: (directory, seq_len, tokenizer_dir) -> the windows of a run. Both raise InputError.
    """

    build: Callable[..., Windows]
    open: Callable[..., Windows]


def _open_corpus(directory, seq_len: int, tokenizer_dir) -> Corpus:
    """The corpus, copied to this machine's disk; it knows its seq_len and holds its tokenizer."""
    return corpus.open_corpus(staging.stage(directory))


# Source.format chooses here; its names stand in data_config.Format.
READERS = {
    "text": Reader(corpus.build, _open_corpus),
    "tokens": Reader(token_source.build, token_source.open_source),
}


def build(
    data: Data,
    seq_len: int,
    root,
    progress: bool = True,
    distributions: Iterable[str] | None = None,
    read: Callable = documents.opened,
) -> tuple[Windows, ...]:
    """The corpora of `data` in order, one for each source; those that `root` does not hold yet are built.

    A BPE is trained on the texts of all sources, of each as many bytes as its share of the tokens; sources that are not
    text are tokens already. read: as in `corpus.build`. Raises InputError, which names the source.
    """
    if not data.sources:
        return (corpus.build(data, seq_len, root, progress, distributions, read),)
    root = epath.Path(root)
    are_built = all(source.corpus and (root / source.corpus / seal.CARD).exists() for source in data.sources)
    if data.tokenizer.startswith("bpe:") and not are_built:
        return _build_with_bpe(data, seq_len, root, progress, distributions, read)
    corpora = []
    for source in data.sources:
        with _named(source):
            how = {"read": read} if source.format == "text" else {}
            build_one = READERS[source.format].build
            corpora.append(build_one(_alone(data, source), seq_len, root, progress, distributions, **how))
    return tuple(corpora)


def open_source(name: str, directory, seq_len: int, tokenizer_dir=None) -> Windows:
    """A source of the format `name`. directory: of the corpus, or of the index of token files.

    tokenizer_dir: of the run's tokenizer, where token files need it.
    """
    return READERS[name].open(directory, seq_len, tokenizer_dir)


def eos(data: Data, corpora: Sequence[Windows]) -> int | None:
    """The id that ends a document in all corpora of `data`, if data.mask_documents is set.

    Raises InputError where documents do not end with an id, or it is not the same in all.
    """
    if not data.mask_documents:
        return None
    ids = {}
    for source, opened in zip(data.sources or [None], corpora, strict=True):
        with _named(source) if source else nullcontext():
            ids[source and source.name] = opened.eos
    if len(set(ids.values())) > 1:
        shown = ", ".join(f"{name}: {token}" for name, token in ids.items())
        mend = "tokenize them with the same id, or leave data.mask_documents out"
        raise InputError(f"the documents of the sources do not all end with the same id ({shown}); {mend}")
    token = next(iter(ids.values()))
    if data.eos_id not in (None, token):
        raise InputError(f"data.eos_id = {data.eos_id}, but documents end with the id {token}; leave data.eos_id out")
    return token


def _alone(data: Data, source: Source) -> Data:
    """The data of one source, as if there were no other."""
    alone = {"text": source.text, "field": source.field, "max_bytes": source.max_bytes, "corpus": source.corpus}
    return replace(data, sources=(), phases=(), simulate_epochs_of=None, **alone)


def _build_with_bpe(
    data: Data, seq_len: int, root, progress: bool, distributions, read: Callable
) -> tuple[Corpus, ...]:
    """All texts are read before the first corpus is written, because they share the tokenizer."""
    with ExitStack() as opened, documents.progress_bars(progress) as start_bar:
        texts = []
        for source in data.sources:
            with _named(source):
                texts.append(opened.enter_context(read(_alone(data, source), root, start_bar, distributions)))
        tokenizer = _bpe(data, texts, root, start_bar)
        corpora = []
        for source, its_texts in zip(data.sources, texts, strict=True):
            with _named(source):
                alone = _alone(data, source)
                corpora.append(corpus.from_texts(its_texts, alone, seq_len, root, tokenizer, start_bar))
    return tuple(corpora)


def _bpe(data: Data, texts: list[Texts], root, start_bar) -> tokenizers.Tokenizer:
    """The BPE of a mixture; documents, shares and size determine it, so it is trained once and kept in `root`."""
    recipe = {"documents": [t.hash for t in texts], "shares": data.shares, "validation": data.validation}
    recipe_hash = hashlib.sha256(canonical_json(recipe | {"tokenizer": data.tokenizer}).encode()).hexdigest()[:16]
    path = root / "tokenizers" / recipe_hash / tokenizers.FILE
    if not path.exists():
        start_bar("training the tokenizer", None)
        size = int(data.tokenizer.removeprefix("bpe:"))
        n_bytes = size * tokenizers.SAMPLE_BYTES_PER_TOKEN
        samples = [t.sample(n_bytes * share // POSITIONS) for t, share in zip(texts, data.shares, strict=True)]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, tokenizers.train(chain(*samples), size).definition)
    return tokenizers.load(path)


@contextmanager
def _named(source: Source):
    """An InputError about `data.text` or `data.field` is one about those of the source."""
    try:
        yield
    except InputError as error:
        message, prefix = str(error), f"data.sources.{source.name}"
        named = message
        for field in ("text", "field", "max_bytes", "corpus"):
            named = named.replace(f"data.{field}", f"{prefix}.{field}")
        raise InputError(named if named != message else f"{prefix}: {message}", error.argument) from None
