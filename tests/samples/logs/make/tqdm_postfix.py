"""Trains under a tqdm bar that shows the loss."""

import torch
from digits import digits
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

torch.manual_seed(3)
images, labels = map(torch.from_numpy, digits())
model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    bar = tqdm(torch.randperm(3000).split(100), desc=f"Epoch {epoch + 1}/3", mininterval=0)
    for batch in bar:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        bar.set_postfix(loss=f"{loss.item():.4f}")
