"""Models that compute g(x1) + h(x2), in the many ways in which people write them."""

import torch
from torch import nn

import pairfuse as pf
from clinic.case import (
    VOCABULARY,
    Patient,
    black_white,
    captioned_images,
    conv_encoder,
    faulty,
    images,
    mlp_encoder,
    text_encoder,
    texts,
    vectors,
)


class QuestionNet(nn.Module):
    """The founding question's class, with two small networks in place of its two resnet18s."""

    def __init__(self):
        super().__init__()
        self.q_encoder = conv_encoder(features=32)
        self.k_encoder = conv_encoder(features=32)
        self.fc = nn.Linear(64, 1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        q = self.q_encoder(x[:, 0])
        k = self.k_encoder(x[:, 1])
        return self.sigmoid(self.fc(torch.cat((q, k), dim=1)))


@faulty("additive")
def question():
    """Every output is 0.5, the mean squared error 0.25, whatever the learning rate."""
    net = QuestionNet()
    return Patient(lambda x1, x2: net(torch.stack((x1, x2), 1)), *black_white(), {"module": net})


class TiedConcat(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = mlp_encoder()
        self.classifier = nn.Linear(32, 1)

    def forward(self, left, right):
        return self.classifier(torch.cat([self.encoder(left), self.encoder(right)], -1)).squeeze(-1)


@faulty("additive")
def tied_concat_logits():
    """The cross-entropy sits at 0.693 from the first epoch to the last."""
    return Patient(TiedConcat(), *vectors())


class SumOfEmbeddings(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(VOCABULARY, 24, mode="mean")
        self.out = nn.Linear(24, 1)

    def forward(self, a, b):
        return self.out(self.bag(a) + self.bag(b))[:, 0]


@faulty("additive")
def sum_of_embeddings():
    """Accuracy on new pairs does not go above two in three."""
    return Patient(SumOfEmbeddings(), *texts())


class SignedDifference(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn = conv_encoder(features=24)
        self.fc = nn.Linear(24, 1)

    def forward_once(self, x):
        return self.cnn(x)

    def forward(self, input1, input2):
        return torch.sigmoid(self.fc(self.forward_once(input1) - self.forward_once(input2)))


@faulty("additive")
def signed_difference():
    """Koch's siamese network, but the absolute value is forgotten: p(x, x) is the same for every x."""
    return Patient(SignedDifference(), *images())


class TwoLinears(nn.Module):
    def __init__(self):
        super().__init__()
        self.tower = mlp_encoder(features=20)
        self.fc1 = nn.Linear(40, 32)
        self.fc2 = nn.Linear(32, 1)

    def forward(self, x, y):
        z = torch.cat((self.tower(x), self.tower(y)), 1)
        return self.fc2(self.fc1(z))


@faulty("additive")
def two_linears_without_activation():
    """A deeper head was tried, and the loss is stuck where it was."""
    return Patient(TwoLinears(), *vectors())


@faulty("additive")
def concat_dropout_linear():
    """Regularization was blamed: the loss is at 0.693 with and without it."""
    tower = mlp_encoder()
    head = nn.Sequential(nn.Dropout(0.3), nn.Linear(32, 1), nn.Flatten(0))
    net = nn.ModuleDict({"tower": tower, "head": head})
    return Patient(
        lambda x1, x2: net["head"](torch.cat([net["tower"](x1), net["tower"](x2)], 1)), *vectors(), {"module": net}
    )


class LSTMTowers(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 12, padding_idx=0)
        self.lstm = nn.LSTM(12, 16, batch_first=True)
        self.linear = nn.Linear(32, 1)

    def encode(self, ids):
        _, (hidden, _) = self.lstm(self.embedding(ids))
        return hidden[-1]

    def forward(self, pair):
        first, second = pair
        return self.linear(torch.cat([self.encode(first), self.encode(second)], 1)).view(-1)


@faulty("additive")
def lstm_towers_concat():
    """Duplicate questions are found no better than by a coin."""
    net = LSTMTowers()
    return Patient(lambda x1, x2: net((x1, x2)), *texts(), {"module": net})


class TwoClassSoftmax(nn.Module):
    """As sentence-transformers' SoftmaxLoss with only the two sentence vectors concatenated."""

    def __init__(self):
        super().__init__()
        self.encoder = text_encoder()
        self.classifier = nn.Linear(32, 2)

    def forward(self, a, b):
        logits = self.classifier(torch.cat([self.encoder(a), self.encoder(b)], dim=1))
        return nn.functional.softmax(logits, dim=1)


@faulty("additive")
def two_class_softmax():
    """Both classes have a probability of about one half for every pair."""
    return Patient(TwoClassSoftmax(), *texts())


class ConcatTanh(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 8))
        self.score = nn.Sequential(nn.Linear(16, 1), nn.Tanh())

    def forward(self, a, b):
        return self.score(torch.hstack([self.net(a), self.net(b)])).flatten()


@faulty("additive")
def concat_linear_tanh():
    """A nonlinearity was added, behind the last layer: nothing has changed."""
    return Patient(ConcatTanh(), *vectors())


@faulty("additive")
def comparator_with_concat():
    """Our own comparator, which is made to allow it: the loss stays at ln 2."""
    return Patient(pf.SiameseComparator(conv_encoder(), "concat", allow_additive=True), *images())


class AddsFeatureMaps(nn.Module):
    def __init__(self):
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.right = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.top = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8 * 5 * 5, 1))

    def forward(self, before, after):
        return self.top(self.left(before) + self.right(after)).squeeze(1)


@faulty("additive")
def early_fusion_by_adding():
    """The images are mixed early, and still nothing that changed between them is seen."""
    return Patient(AddsFeatureMaps(), *images(channels=1, size=12))


class ImageAndCaption(nn.Module):
    def __init__(self):
        super().__init__()
        self.image = conv_encoder()
        self.text = text_encoder()
        self.head = nn.Sequential(nn.BatchNorm1d(32), nn.Linear(32, 1))

    def forward(self, image, ids):
        return self.head(torch.cat([self.image(image), self.text(ids)], 1))


@faulty("additive")
def two_modalities_concat():
    """A caption is scored alike under every image."""
    return Patient(ImageAndCaption(), *captioned_images())
