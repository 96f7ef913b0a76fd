"""The same training, printed in the ways that students print it: `python prints.py STYLE`."""

import json
import logging
import sys

import torch
from digits import digits
from torch import nn
from torch.nn import functional as F

style = sys.argv[1]
torch.manual_seed(2)
images, labels = map(torch.from_numpy, digits())
train, held = slice(0, 2500), slice(2500, 3000)
model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
logging.basicConfig(
    stream=sys.stdout, level=logging.INFO, format="%(asctime)s [%(levelname)s] %(name)s:%(lineno)d - %(message)s"
)
log = logging.getLogger("mnist.train")
EPOCHS = 8


def batches():
    order = torch.randperm(2500)
    for index, start in enumerate(range(0, 2500, 125)):
        chosen = order[start : start + 125]
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        loss.backward()
        optimizer.step()
        yield index, loss


step = 0
if style == "table":
    print("| epoch | train loss | val loss |\n|---|---|---|")
for epoch in range(EPOCHS):
    total = 0.0
    for index, loss in batches():
        total += loss.item()
        step += 1
        if style == "tutorial" and index % 5 == 4:
            print(f"[{epoch + 1}, {index + 1:5d}] loss: {total / (index + 1):.3f}")
        elif style == "logging" and index % 5 == 0:
            log.info("epoch=%d step=%d loss=%.4e lr=1.0e-03", epoch, step, loss.item())
        elif style == "json" and index % 5 == 0:
            print(json.dumps({"step": step, "epoch": epoch, "train_loss": loss.item(), "lr": 1e-3}))
        elif style == "tensor" and index % 10 == 0:
            print("Epoch", epoch, "loss", loss)
        elif style == "carriage" and index % 5 == 0:
            print(f"\r训练中 第{epoch + 1}轮 step {index} 损失 {loss.item():.4f}", end="")
        elif style == "parts" and index % 5 == 0:
            reg = 1e-4 * sum(p.pow(2).sum() for p in model.parameters())
            print(
                f"iter {step}: reg_loss {reg.item():.5f} cls_loss {loss.item():.4f} total_loss {(loss + reg).item():.4f}"
            )
    with torch.no_grad():
        out = model(images[held])
        val = F.cross_entropy(out, labels[held]).item()
        acc = (out.argmax(1) == labels[held]).float().mean().item()
    mean = total / 20
    if style == "epochs":
        print(f"Epoch [{epoch + 1}/{EPOCHS}], Train Loss: {mean:.4f}, Val Loss: {val:.4f}, Val Acc: {100 * acc:.2f}%")
    elif style == "chinese":
        print(f"第 {epoch + 1} 轮:训练损失:{mean:.4f},验证损失:{val:.4f},准确率:{100 * acc:.1f}%")
    elif style == "chinese-average":
        print(f"轮次 {epoch + 1} 平均损失 = {mean:.4f}")
    elif style == "gbk":
        sys.stdout.buffer.write(f"第{epoch + 1}轮 损失: {mean:.4f}\n".encode("gbk"))
    elif style == "table":
        print(f"| {epoch + 1} | {mean:.4f} | {val:.4f} |")
    elif style in {"tutorial", "json"}:
        print(f"validation loss: {val:.4f}")
