"""One side of a comparison: how its encoder is called, and what is said when that fails."""

import re

import pytest
import torch
from torch import nn

import pairfuse as pf
from pairfuse.items.tower import Tower, takes_keywords

X = torch.randn(6, 5)


def raises(error, words):
    return pytest.raises(error, match=re.escape(words))


class Calls(nn.Module):
    """Wraps what gets any arguments."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


def encoder(forward):
    return type("Encoder", (nn.Module,), {"forward": forward, "embedding_dim": 4})()


def named(self, input_ids, attention_mask=None):
    return input_ids[:, :4] * attention_mask[:, None]


@pytest.mark.parametrize(
    ("forward", "due"),
    [
        (named, True),
        (lambda self, input_ids=None, **kwargs: None, True),
        (lambda self, x: None, False),
        (lambda self, x, **kwargs: None, False),
        (lambda self, x, /: None, False),
        (lambda self, input_ids: None, False),
        (lambda self, *args, **kwargs: None, False),
    ],
)
def test_takes_keywords(forward, due):
    """By the signature: all keys fit, and one of them is the name of a parameter."""
    x = {"input_ids": X, "attention_mask": X[:, 0]}
    assert takes_keywords(encoder(forward), x) == due
    assert takes_keywords(Calls(Calls(encoder(forward))), x) == due


def test_a_mapping_as_keyword_arguments():
    x1, x2 = ({"input_ids": torch.randn(6, length), "attention_mask": torch.ones(6)} for length in (5, 7))
    model = pf.SiameseComparator(Calls(encoder(named)), "product", embedding_dim=4)
    due = model.head(x1["input_ids"][:, :4] * x2["input_ids"][:, :4]).squeeze(1)
    torch.testing.assert_close(model(x1, x2), due)
    torch.testing.assert_close(model.score_matrix(x1, x2, batch_size=4).diagonal(), due)
    torch.testing.assert_close(model(x1, x1), model.head(x1["input_ids"][:, :4] ** 2).squeeze(1))


def test_a_mapping_that_an_encoder_does_not_take():
    """The model of a tokenizer, inside an nn.Sequential: the error of attribute access alone says nothing."""

    def forward(self, input_ids):
        raise AttributeError

    x = {"input_ids": X, "other": X}
    words = "cannot take x: AttributeError. x is {'input_ids': shape (6, 5), 'other': shape (6, 5)}: forward does not"
    with raises(ValueError, words):
        pf.SiameseComparator(nn.Sequential(encoder(forward)), embedding_dim=4).encode(x)


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_dtypes_that_do_not_fit(dtype):
    x = torch.ones(6, 5, dtype=dtype)
    call = "take its real part first" if dtype.is_complex else "use x1.float()"
    words = f"x1 is of dtype {dtype}, the encoder of torch.float32: {call}"
    for layers in (nn.Linear(5, 4), nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 4))):
        with raises(ValueError, words):
            pf.SiameseComparator(layers)(x, x)
    identity = pf.SiameseComparator(nn.Identity(), embedding_dim=5)
    for call in (identity.encode, identity.encode_items):
        with raises(TypeError, f"encoder Identity must return floating-point embeddings, got dtype {dtype}"):
            call(x)


def test_other_errors_of_ids():
    """An encoder that takes ids may fail for other reasons, and its dtype is not one of them."""
    model = pf.SiameseComparator(nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(8, 4)))
    with pytest.raises(RuntimeError, match="cannot be multiplied") as error:
        model.encode(torch.ones(6, 4, dtype=torch.int64))
    assert error.value.__notes__ == ["encoder Sequential was given x: shape (6, 4)"]


def test_an_encoder_for_one_batch_size():
    """As torch.export makes it. The note names the joint batch; joint_pass=False encodes the sides apart."""
    exported = torch.export.export(nn.Linear(5, 4), (X,)).module()
    joint, apart = (pf.SiameseComparator(exported, "product", embedding_dim=4, joint_pass=on) for on in (True, False))
    with pytest.raises(AssertionError) as error:
        joint(X, X)
    assert error.value.__notes__ == [
        "encoder GraphModule was given x1: shape (6, 5), joined with x2 to a batch of 12 items. If the encoder takes "
        "only batches of 6, pass joint_pass=False to SiameseComparator"
    ]
    torch.testing.assert_close(apart(X, X), apart.head(exported(X) ** 2).squeeze(1))
    joint.encoder = encoder(lambda self, x: x[:6, :4])
    with raises(ValueError, "(B, D) = (12, 4), got shape (6, 4)") as error:
        joint(X, X)
    assert "joined with x2 to a batch of 12 items. If the encoder takes only batches of 6" in error.value.__notes__[0]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_when_the_batch_size_may_be_the_cause():
    """Only then does the note name joint_pass: not for a wrong width."""

    def refuses(self, x):
        raise RuntimeError("the batch size must be 6")

    scripted = torch.jit.script(nn.Linear(4, 4))
    for module, hinted in ((encoder(refuses), True), (scripted, True), (nn.Linear(4, 4), False)):
        with pytest.raises(RuntimeError) as error:
            pf.SiameseComparator(module, embedding_dim=4)(X, X)
        assert ("joint_pass=False" in error.value.__notes__[0]) == hinted
    with raises(ValueError, "pass embedding_dim=5") as error:
        pf.SiameseComparator(encoder(lambda self, x: x))(X, X)
    assert error.value.__notes__ == ["encoder Encoder was given x1, joined with x2 to a batch of 12 items"]


def test_a_single_item_among_many():
    tower = Tower(nn.Linear(5, 4), 4, item_ndim=1)
    assert tower.is_single("x", X[0])
    assert not tower.is_single("x", X)
    with raises(ValueError, "x must be a batch of items, got one item of shape (5,): pass x[None]"):
        tower.encode_items("x", X[0], batch_size=2, progress=False)
