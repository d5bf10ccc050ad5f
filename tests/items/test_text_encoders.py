"""Encoders that wrap a text model: with a stand-in, and with the real libraries if they are installed."""

from types import SimpleNamespace

import pytest
import torch
from documents import ROOT, run_page
from torch import nn

import pairfuse as pf


class Transformer(nn.Module):
    """Takes and returns what a transformer does; its hidden states are the embeddings of the words."""

    config = SimpleNamespace(hidden_size=8)

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 8)

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(last_hidden_state=self.words(input_ids))


def test_padding_does_not_count():
    """The mean is that of the words which are there."""
    encoder = pf.encoders.Pooled(Transformer())
    ids, mask = torch.tensor([[5, 7, 9, 9], [5, 7, 0, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    model = pf.SiameseComparator(encoder)
    longer, shorter = model.encode({"input_ids": ids, "attention_mask": mask})
    words = encoder.model.words
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
def test_with_transformers(bert):
    """The tokenizer's output goes in as it is; padding and the length of the other side change nothing."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(bert), AutoModel.from_pretrained(bert).eval()
    short, long = (
        tokenizer(texts, padding=True, return_tensors="pt") for texts in (["a cat", "far"], ["the dog ran far", ""])
    )
    hidden = model(**short)
    due = {
        "mean": torch.stack([hidden.last_hidden_state[0, :4].mean(0), hidden.last_hidden_state[1, :3].mean(0)]),
        "cls": hidden.last_hidden_state[:, 0],
        "pooler_output": hidden.pooler_output,
    }
    for pooling, embeddings in due.items():
        comparator = pf.SiameseComparator(pf.encoders.Pooled(model, pooling), "product").eval()
        torch.testing.assert_close(comparator.encode(short), embeddings)
        torch.testing.assert_close(comparator.encode_items(short, batch_size=1), embeddings)
        together = tokenizer(["a cat", "far", "the dog ran far", ""], padding=True, return_tensors="pt")
        u, v = comparator.encode(together).tensor_split(2)
        torch.testing.assert_close(comparator(short, long), comparator.head(u * v).squeeze(1))
    with pytest.raises(TypeError, match=r"BaseModelOutput.*: pass pairfuse\.encoders\.Pooled\(encoder\)"):
        pf.SiameseComparator(model).encode(short)
    for other in ("image_embeds", "max", "values"):  # the last one is a method of the output
        words = rf"BertModel to return a tensor {other}, got .* with last_hidden_state, pooler_output: pass pooling="
        with pytest.raises(ValueError, match=words):
            pf.encoders.Pooled(model, other)(short)
    with pytest.raises(ValueError, match="Pooled cannot find the width of Linear: pass embedding_dim="):
        pf.encoders.Pooled(torch.nn.Linear(2, 2))


@pytest.mark.filterwarnings("default")
def test_with_sentence_transformers(bert):
    """Its embeddings are those that it gives by itself."""
    library = pytest.importorskip("sentence_transformers", minversion="6")
    from sentence_transformers.sentence_transformer import modules

    model = library.SentenceTransformer(modules=[modules.Transformer(bert), modules.Pooling(32)], device="cpu")
    encoder = run_page(ROOT / "docs" / "encoders.md")["SentenceEncoder"](model)
    texts = ["a cat sat", "the dog ran far"]
    embeddings = pf.SiameseComparator(encoder).encode_items(encoder.tokenize(texts))
    torch.testing.assert_close(embeddings, torch.as_tensor(model.encode(texts)), atol=1e-5, rtol=0)
