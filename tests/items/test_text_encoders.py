"""The encoders of the how-to that wrap a text model: with a stand-in, and with the libraries where they are there."""

from types import SimpleNamespace

import pytest
import torch
from documents import ROOT, run_page
from torch import nn

import pairfuse as pf


@pytest.fixture(scope="module")
def page():
    """What the code blocks of the how-to leave behind."""
    return run_page(ROOT / "docs" / "encoders.md")


class Transformer(nn.Module):
    """Takes and returns what a transformer does; its hidden states are the embeddings of the words."""

    config = SimpleNamespace(hidden_size=8)

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 8)

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(last_hidden_state=self.words(input_ids))


def test_padding_does_not_count(page):
    """The mean is that of the words which are there."""
    encoder = page["TransformerEncoder"](Transformer())
    ids, mask = torch.tensor([[5, 7, 9, 9], [5, 7, 0, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    model = pf.SiameseComparator(encoder)
    longer, shorter = model.encode({"input_ids": ids, "attention_mask": mask})
    words = encoder.transformer.words
    torch.testing.assert_close(shorter, words(torch.tensor([5, 7])).mean(0))
    torch.testing.assert_close(longer, words(ids[0]).mean(0))


@pytest.fixture
def bert(tmp_path):
    """A folder with a tiny transformer, of random weights, and its tokenizer."""
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat", "the", "dog", "ran", "far"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    transformers.BertModel(transformers.BertConfig(vocab_size=len(words), **sizes)).save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.mark.filterwarnings("default")
def test_with_transformers(page, bert):
    """The tokenizer's output goes in as it is."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(bert), AutoModel.from_pretrained(bert)
    tokens = tokenizer(["a cat sat", "the dog ran far"], padding=True, return_tensors="pt")
    comparator = pf.SiameseComparator(page["TransformerEncoder"](model))
    assert comparator(tokens, tokens).shape == (2,)


@pytest.mark.filterwarnings("default")
def test_with_sentence_transformers(page, bert):
    """Its embeddings are those that it gives by itself."""
    library = pytest.importorskip("sentence_transformers", minversion="6")
    from sentence_transformers.sentence_transformer import modules

    model = library.SentenceTransformer(modules=[modules.Transformer(bert), modules.Pooling(32)], device="cpu")
    encoder = page["SentenceEncoder"](model)
    texts = ["a cat sat", "the dog ran far"]
    embeddings = pf.SiameseComparator(encoder).encode_items(encoder.tokenize(texts))
    torch.testing.assert_close(embeddings, torch.as_tensor(model.encode(texts)), atol=1e-5, rtol=0)
