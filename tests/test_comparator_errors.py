"""What `SiameseComparator` says of bad input: one clear error each, tested by its words."""

import re

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils import prune

import pairfuse as pf


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape)


class Returns(nn.Module):
    """An encoder that returns what it is told to."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def raises(error, words):
    return pytest.raises(error, match=re.escape(words))


def test_different_batch_sizes():
    model = pf.SiameseComparator(nn.Linear(5, 4))
    with raises(ValueError, "same number of items, got 2 (x1 of shape (2, 5)) and 3 (x2 of shape (3, 5))"):
        model(images(2, 5), images(3, 5))


def test_tensors_of_one_input_that_differ_in_batch_size():
    model = pf.SiameseComparator(nn.Linear(5, 4))
    with raises(ValueError, "x1 must hold tensors with one common first dimension, the batch, got {'a': shape (2,"):
        model({"a": images(2, 5), "b": images(3, 5)}, images(2, 5))
    for empty in ({}, [], torch.tensor(1.0)):
        with raises(ValueError, "x1 must hold tensors with one common first dimension"):
            model(empty, images(2, 5))


@pytest.mark.parametrize("value", [None, "text", 3, {"a": None}, [images(2, 5), "text"]])
def test_inputs_that_are_not_tensors(value):
    model = pf.SiameseComparator(nn.Linear(5, 4))
    with raises(TypeError, "x2 must be a tensor, or nested dicts, tuples or lists of tensors, got "):
        model(images(2, 5), value)


def test_two_widths_need_a_fusion_for_two():
    words = "got in_features=4 and in2_features=3: make them equal, or use a fusion for two widths, such as 'bilinear'"
    with raises(ValueError, words):
        pf.SiameseComparator(nn.Linear(5, 4), right_encoder=nn.Linear(5, 3))


def test_embeddings_of_the_wrong_width():
    model = pf.SiameseComparator(Returns(lambda x: x), "product", embedding_dim=4)
    words = "encoder Returns must return embeddings of shape (B, D) = (4, 4), got shape (4, 5): pass embedding_dim=5"
    with raises(ValueError, words):
        model(images(2, 5), images(2, 5))


def test_a_feature_map():
    model = pf.SiameseComparator(nn.Sequential(nn.Conv2d(3, 8, 3)), "product", embedding_dim=8)
    with raises(
        ValueError, "of shape (B, D) = (4, 8), got shape (4, 8, 6, 6): that is a feature map; end the encoder with"
    ):
        model(images(2, 3, 8, 8), images(2, 3, 8, 8))


def test_a_sequence():
    model = pf.SiameseComparator(nn.Linear(5, 4))
    with raises(ValueError, "got shape (4, 7, 4): that is a sequence; end the encoder with a pooling"):
        model(images(2, 7, 5), images(2, 7, 5))


def test_an_encoder_that_loses_the_batch():
    model = pf.SiameseComparator(Returns(lambda x: x.mean(0)), embedding_dim=5)
    with raises(ValueError, "must return embeddings of shape (B, D) = (4, 5), got shape (5,)"):
        model(images(2, 5), images(2, 5))


def test_an_encoder_that_returns_no_tensor():
    model = pf.SiameseComparator(Returns(lambda x: (x, x)), embedding_dim=5)
    with raises(TypeError, "must return embeddings of shape (B, D) = (4, 5), got tuple: wrap the encoder"):
        model(images(2, 5), images(2, 5))


@pytest.mark.parametrize(
    ("encoder", "shape"),
    [
        (torchvision.models.resnet18(), (2, 3, 32, 32)),
        (nn.Sequential(nn.Flatten(), nn.Linear(3072, 4)), (2, 3, 32, 32)),
        (nn.Linear(784, 4), (2, 784)),
    ],
)
def test_uint8_images(encoder, shape):
    x = torch.zeros(shape, dtype=torch.uint8)
    model = pf.SiameseComparator(encoder)
    with raises(ValueError, "x1 is of dtype uint8: convert images to float in [0, 1] first, as in x1.float() / 255"):
        model(x, x)
    with raises(ValueError, "x is of dtype uint8: convert images to float in [0, 1] first, as in x.float() / 255"):
        model.encode(x)


def test_an_encoder_may_take_uint8():
    """Only what fails is refused: an encoder that scales its images itself works."""
    encoder = nn.Sequential(Returns(lambda x: x.float().flatten(1) / 255), nn.Linear(3072, 4))
    x = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    assert pf.SiameseComparator(encoder)(x, x).shape == (2,)


@pytest.mark.parametrize(
    "encoder",
    [
        torchvision.models.resnet18(),
        nn.Sequential(nn.Conv2d(6, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
    ],
)
def test_a_three_dimensional_input_without_item_ndim(encoder):
    """Whether the encoder fails on it or returns nonsense."""
    x = images(3, 32, 32)
    words = (
        "x1 of shape (3, 32, 32) was read as a batch of 3 items of shape (32, 32): if it is one image, pass item_ndim=3"
    )
    with raises(ValueError, words):
        pf.SiameseComparator(encoder)(x, x)


def test_a_vector_without_item_ndim():
    words = "x1 of shape (5,) was read as a batch of 5 items of shape (): if it is one item, pass item_ndim=1"
    with raises(ValueError, words):
        pf.SiameseComparator(nn.Linear(5, 4))(images(5), images(5))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("none"), KeyError("my"), TypeError("my")])
def test_errors_that_are_not_about_the_input_pass_through(error):
    """Code that catches OutOfMemoryError goes on working, whatever the input looks like."""

    def fail(x):
        raise error

    model = pf.SiameseComparator(Returns(fail), embedding_dim=4)
    with pytest.raises(type(error)):
        model(images(2, 7, 5), images(2, 7, 5))


def test_a_byte_mask_is_not_taken_for_an_image():
    model = pf.SiameseComparator(Returns(lambda x: x["ids"] @ images(3, 3)), embedding_dim=4)
    x = {"ids": images(2, 5), "mask": torch.zeros(2, 5, dtype=torch.uint8)}
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        model(x, x)


def test_a_double_from_numpy():
    words = "x1 is of dtype torch.float64, the encoder of torch.float32: use x1.float()"
    with raises(ValueError, words):
        pf.SiameseComparator(nn.Linear(5, 4))(images(2, 5).double(), images(2, 5).double())


@pytest.mark.parametrize(
    ("head", "got"),
    [
        (nn.Sequential(nn.Linear(8, 3), nn.Flatten(0)), "shape (6,)"),
        (nn.Sequential(nn.Linear(8, 1), Returns(lambda z: z.mean())), "shape ()"),
        (nn.Sequential(nn.Linear(8, 1), Returns(lambda z: (z, z))), "tuple"),
    ],
)
def test_a_head_that_loses_the_pairs(head, got):
    model = pf.SiameseComparator(nn.Linear(5, 4), head=head)
    with raises(ValueError, f"head must return logits of shape (B, K) or (B,) with B = 2, got {got}"):
        model(images(2, 5), images(2, 5))


def test_embeddings_of_a_wider_dtype():
    model = pf.SiameseComparator(nn.Identity(), embedding_dim=5)
    words = (
        "got torch.float64 embeddings and torch.float32 weights: use model.double(), or convert the inputs, as in "
        "x1.float()"
    )
    with raises(ValueError, words):
        model(images(2, 5).double(), images(2, 5).double())


def test_a_head_that_squeezes_a_batch_of_one():
    """The last batch of an epoch: an error, not a logit of another shape."""
    model = pf.SiameseComparator(nn.Linear(5, 4), head=nn.Sequential(nn.Linear(8, 1), Returns(torch.squeeze)))
    assert model(images(2, 5), images(2, 5)).shape == (2,)
    with raises(ValueError, "with B = 1, got shape (): end it with nn.Linear(..., K), without squeezing the batch"):
        model(images(1, 5), images(1, 5))


def test_other_errors_of_an_encoder_are_its_own():
    model = pf.SiameseComparator(nn.Linear(5, 4))
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied") as error:
        model(images(2, 6), images(2, 6))
    assert error.value.__notes__ == [
        "encoder Linear was given x1: shape (2, 6), joined with x2 to a batch of 4 items"  # joint_pass cannot help
    ]


class Bert(nn.Module):
    """It takes what a tokenizer returns."""

    embedding_dim = 4

    def __init__(self, fails=None):
        super().__init__()
        self.words, self.fails = nn.Embedding(9, 4), fails

    def forward(self, input_ids, attention_mask):
        if self.fails is not None and input_ids.ndim == 1:
            raise self.fails
        return self.words(input_ids).mean(1)


@pytest.mark.parametrize("fails", [None, IndexError("Dimension out of range"), ValueError("not enough values")])
def test_one_text_without_its_batch_dimension(fails):
    """Whether the encoder fails on it or returns nonsense."""
    text = {"input_ids": torch.tensor([1, 2, 3]), "attention_mask": torch.ones(3)}
    words = (
        "x1 of {'input_ids': shape (3,), 'attention_mask': shape (3,)} was read as a batch of 3 items: if it is one "
        "item, pass item_ndim=1 to SiameseComparator"
    )
    with raises(ValueError, words):
        pf.SiameseComparator(Bert(fails))(text, text)
    assert pf.SiameseComparator(Bert(fails), item_ndim=1)(text, text).shape == ()


def test_dimensions_that_fit_no_item():
    model = pf.SiameseComparator(nn.Linear(5, 4), item_ndim=1)
    with raises(
        ValueError,
        "x1 must have 2 dimensions (a batch of items) or 1 (one item), since item_ndim=1, got shape (1, 2, 5)",
    ):
        model(images(1, 2, 5), images(2, 5))
    with raises(ValueError, "x1 and x2 must both be batches or both be single items, got x1 of shape (5,) and x2 of"):
        model(images(5), images(2, 5))


@pytest.mark.parametrize("thing", [nn.Linear, torchvision.models.resnet18, lambda x: x, None, 3])
def test_an_encoder_or_head_that_is_no_module(thing):
    with raises(TypeError, "SiameseComparator expects encoder to be an nn.Module, got"):
        pf.SiameseComparator(thing)
    with raises(TypeError, "SiameseComparator expects head to be an nn.Module, got"):
        pf.SiameseComparator(nn.Linear(5, 4), head=thing)


@pytest.mark.parametrize(
    ("thing", "advice"),
    [
        (torchvision.models.ResNet, ": call it first, as in encoder=ResNet(...)"),
        (
            torchvision.models.resnet18,
            ": wrap it in an nn.Module, or call it if it builds one, as in encoder=resnet18(...)",
        ),
        (lambda x: x, ": wrap it in an nn.Module"),
        ("resnet18", ": for a model of torchvision, pass pairfuse.encoders.vision_encoder(name)"),
    ],
)
def test_a_class_a_function_or_a_name_instead_of_a_module(thing, advice):
    with pytest.raises(TypeError, match=re.escape(advice) + "$"):
        pf.SiameseComparator(thing)


@pytest.mark.parametrize("fusion", [nn.Bilinear(4, 4, 3), nn.Bilinear, lambda u, v: u * v])
def test_a_fusion_of_another_kind(fusion):
    words = ": pass a name of pairfuse.list_fusions(), such as 'bilinear', or write a subclass of pairfuse.Fusion"
    with raises(TypeError, words):
        pf.SiameseComparator(nn.Linear(5, 4), fusion)


def test_texts_that_are_not_tokenized():
    model = pf.SiameseComparator(nn.Linear(5, 4))
    for texts, got in (("a cat", "str"), (["a cat", "a dog"], "str in a list")):
        with pytest.raises(TypeError, match=f"lists of tensors, got {got}: tokenize texts first$"):
            model(texts, texts)


def test_a_head_whose_input_width_does_not_fit():
    with raises(ValueError, "head expects 3 features, but the fusion gives 8: begin it with a layer for 8, such as"):
        pf.SiameseComparator(nn.Linear(5, 4), head=nn.Linear(3, 1))


def test_an_unknown_head_or_fusion():
    with raises(ValueError, "unknown head 'mpl': did you mean 'mlp'? The names are: linear, mlp"):
        pf.SiameseComparator(nn.Linear(5, 4), head="mpl")
    with raises(ValueError, "unknown fusion 'absdiff': did you mean 'abs-diff'?"):
        pf.SiameseComparator(nn.Linear(5, 4), "absdiff")


def test_a_width_that_cannot_be_told():
    encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    words = (
        "cannot find the width of the embeddings from encoder Sequential: it has none of the attributes embedding_dim, "
        "num_features, out_features, and no nn.Linear. Pass embedding_dim=... to SiameseComparator"
    )
    with raises(ValueError, words):
        pf.SiameseComparator(encoder)
    assert pf.SiameseComparator(encoder, embedding_dim=8)(images(2, 3, 8, 8), images(2, 3, 8, 8)).shape == (2,)
    assert pf.SiameseComparator(encoder, pf.fusions.Product(8)).fusion.in_features == 8
    assert pf.SiameseComparator(encoder, ["abs-diff", pf.fusions.Product(8)]).fusion.out_features == 16
    with raises(ValueError, "from right_encoder Sequential"):
        pf.SiameseComparator(nn.Linear(5, 4), right_encoder=encoder)


def test_a_fusion_of_another_width():
    words = "fusion Product expects embeddings of widths 8 (u) and 8 (v), but the encoders give 4 and 4."
    with raises(ValueError, words):
        pf.SiameseComparator(nn.Linear(5, 4), pf.fusions.Product(8))
    with raises(ValueError, words):
        pf.SiameseComparator(nn.Conv2d(3, 8, 3), pf.fusions.Product(8), embedding_dim=4)


@pytest.mark.parametrize(
    ("argument", "value", "error", "words"),
    [
        ("embedding_dim", 0, ValueError, "embedding_dim to be at least 1, got 0"),
        ("embedding_dim", 4.0, TypeError, "embedding_dim to be an int, got 4.0"),
        ("item_ndim", -1, ValueError, "item_ndim to be at least 0, got -1"),
        ("item_ndim", "3", TypeError, "item_ndim to be an int, got '3'"),
        ("right_encoder", "resnet18", TypeError, "right_encoder to be an nn.Module, got 'resnet18'"),
        (
            "fusion",
            pf.fusions.Product,
            TypeError,
            "elementwise.Product'>: call it first, as in Product(4)",
        ),
    ],
)
def test_other_arguments(argument, value, error, words):
    with raises(error, words):
        pf.SiameseComparator(nn.Linear(5, 4), **{argument: value})


def multiply(module, inputs, output):
    left, right = inputs[0].chunk(2, -1)
    return (left * right).sum(-1, keepdim=True)


def test_a_hook_or_a_patch_may_undo_what_a_fusion_declares():
    """Then nothing is proved: neither that the model is symmetric, nor that it cannot learn."""
    hooked, patched = nn.Linear(8, 1), pf.fusions.Concat(4)
    hooked.register_forward_hook(multiply)
    patched.fuse = lambda u, v: torch.cat([u * v, v], -1)
    for fusion, head in (("concat", hooked), (patched, "linear")):
        assert not pf.SiameseComparator(nn.Linear(5, 4), fusion, head).additive
    model = pf.SiameseComparator(nn.Linear(5, 4), "product")
    assert model.symmetric
    model.fusion.register_forward_hook(lambda module, inputs, output: output + inputs[0])
    assert not model.symmetric
    for prepared in (nn.LazyLinear(1), prune.l1_unstructured(nn.Linear(8, 1), "weight", amount=0.5)):
        with pytest.raises(pf.AdditiveComparatorError):  # hooks that only prepare a weight
            pf.SiameseComparator(nn.Linear(5, 4), "concat", prepared)
