"""Trains with Lightning under its tqdm bar or its Rich bar; leaves `lightning_logs/version_0/metrics.csv`."""

import sys

import lightning as L
import torch
from digits import digits
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Net(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch, index):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, index):
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


L.seed_everything(4)
images, labels = map(torch.from_numpy, digits())
train = DataLoader(TensorDataset(images[:2500], labels[:2500]), batch_size=125, shuffle=True)
held = DataLoader(TensorDataset(images[2500:], labels[2500:]), batch_size=250)
bar = RichProgressBar() if sys.argv[1] == "rich" else TQDMProgressBar(refresh_rate=1)
L.Trainer(
    max_epochs=2,
    accelerator="cpu",
    callbacks=[bar],
    log_every_n_steps=2,
    num_sanity_val_steps=0,
    logger=[CSVLogger("."), TensorBoardLogger("tb")],
    enable_checkpointing=False,
).fit(Net(), train, held)
