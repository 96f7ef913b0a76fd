"""Trains with PyTorch and prints what the PyTorch examples print; options make it fail in the ways that matter."""

import argparse

import torch
from digits import digits
from torch import nn
from torch.nn import functional as F

options = argparse.ArgumentParser()
options.add_argument("--lr", type=float, default=0.1)
options.add_argument("--epochs", type=int, default=2)
options.add_argument("--batch", type=int, default=64)
options.add_argument("--every", type=int, default=2)
options.add_argument("--ascent", action="store_true")
options.add_argument("--shuffled", action="store_true")
options.add_argument("--nan-after", type=int)
options.add_argument("--blow-up-after", type=int)
options.add_argument("--print", default="example", choices=["example", "once", "nothing", "validation"])
args = options.parse_args()

torch.manual_seed(1)
images, labels = map(torch.from_numpy, digits())
images, labels, test_images, test_labels = images[:2500], labels[:2500], images[2500:], labels[2500:]
if args.shuffled:
    labels = labels[torch.randperm(len(labels))]
model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.5)
step = 0
for epoch in range(1, args.epochs + 1):
    model.train()
    order = torch.randperm(len(images))
    for index, start in enumerate(range(0, len(images), args.batch)):
        batch = order[start : start + args.batch]
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        if args.nan_after and step >= args.nan_after:
            loss = loss * torch.log(torch.zeros(1)).sum() * 0
        (-loss if args.ascent else loss).backward()
        if args.blow_up_after and step >= args.blow_up_after:
            optimizer.param_groups[0]["lr"] = 30.0
        optimizer.step()
        step += 1
        if args.print == "example" and index % args.every == 0:
            print(
                f"Train Epoch: {epoch} [{start}/{len(images)} ({100.0 * start / len(images):.0f}%)]\tLoss: {loss.item():.6f}"
            )
    model.eval()
    with torch.no_grad():
        out = model(test_images)
        test_loss = F.cross_entropy(out, test_labels).item()
        correct = int((out.argmax(1) == test_labels).sum())
    if args.print == "example":
        print(
            f"\nTest set: Average loss: {test_loss:.4f}, Accuracy: {correct}/{len(test_labels)} ({100.0 * correct / len(test_labels):.0f}%)\n"
        )
    elif args.print == "validation":
        print(f"Epoch {epoch}/{args.epochs} done - val_loss: {test_loss:.4f} - val_acc: {correct / len(test_labels):.4f}")
if args.print == "once":
    print(f"Training finished, final loss: {loss.item():.4f}")
if args.print == "nothing":
    print("Using CrossEntropyLoss and SGD, loss_weight=1.0")
    print("Saved the model to model.pt")
