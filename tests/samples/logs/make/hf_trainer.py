"""Trains with the Trainer of Transformers; leaves `out/checkpoint-*/trainer_state.json`."""

import torch
from digits import digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

images, labels = map(torch.from_numpy, digits())


class Digits(Dataset):
    def __init__(self, part):
        self.images, self.labels = images[part], labels[part]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, at):
        return {"pixels": self.images[at], "labels": self.labels[at]}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, pixels, labels=None):
        logits = self.net(pixels)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


arguments = TrainingArguments(
    output_dir="out",
    num_train_epochs=3,
    per_device_train_batch_size=50,
    learning_rate=2e-3,
    logging_steps=5,
    eval_strategy="epoch",
    save_strategy="epoch",
    report_to=[],
    use_cpu=True,
    seed=5,
)
Trainer(
    model=Net(),
    args=arguments,
    train_dataset=Digits(slice(0, 2500)),
    eval_dataset=Digits(slice(2500, 3000)),
).train()
