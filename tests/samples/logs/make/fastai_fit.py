"""Trains with fastai's learner, which prints a table."""

import torch
from digits import digits
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.metrics import accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(7)
images, labels = map(torch.from_numpy, digits())
loaders = DataLoaders(
    DataLoader(TensorDataset(images[:2500], labels[:2500]), batch_size=100, shuffle=True),
    DataLoader(TensorDataset(images[2500:], labels[2500:]), batch_size=100),
)
model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
Learner(loaders, model, loss_func=nn.CrossEntropyLoss(), metrics=accuracy, path=".", model_dir=".").fit(6, 1e-3)
