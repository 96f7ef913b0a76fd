"""Train a small network on MNIST and save its weights as mnist_cnn.pt."""

import argparse
import math

import torch
import torch.nn.functional as F
from torchvision import datasets, transforms

from model import Net


def jitter(images):
    """Shift each image by up to 3 pixels and turn it by up to 10 degrees: nobody writes in the exact middle."""
    n = len(images)
    angle = (torch.rand(n, device=images.device) * 2 - 1) * math.radians(10)
    shift = (torch.rand(n, 2, device=images.device) * 2 - 1) * (3 / 14)  # the grid runs from -1 to 1 over 28 pixels
    cos, sin = angle.cos(), angle.sin()
    rows = [torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def train(args, model, device, loader, optimizer, scheduler, epoch):
    model.train()
    for batch, (images, labels) in enumerate(loader):
        images, labels = jitter(images.to(device)), labels.to(device)
        optimizer.zero_grad()
        loss = F.nll_loss(model(images), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        if batch % args.log_interval == 0:
            seen, total = batch * len(images), len(loader.dataset)
            print(f"Train Epoch: {epoch} [{seen}/{total} ({100 * seen / total:.0f}%)]\tLoss: {loss.item():.6f}")


def test(model, device, loader):
    model.eval()
    loss, correct = 0.0, 0
    with torch.no_grad():
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            output = model(images)
            loss += F.nll_loss(output, labels, reduction="sum").item()
            correct += (output.argmax(dim=1) == labels).sum().item()
    total = len(loader.dataset)
    print(
        f"\nTest set: Average loss: {loss / total:.4f}, "
        f"Accuracy: {correct}/{total} ({100 * correct / total:.0f}%)\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4, help="how often to go through the data (default: 4)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.01, help="the highest learning rate (default: 0.01)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", default="../data", help="where MNIST is, or is downloaded to (default: ../data)")
    parser.add_argument("--log-interval", type=int, default=5, help="print the loss after so many batches (default: 5)")
    parser.add_argument("--save-model", action="store_true", help="save the weights as mnist_cnn.pt")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"Using {torch.cuda.get_device_name() if device.type == 'cuda' else 'the CPU'}, torch {torch.__version__}")

    to_tensor = transforms.ToTensor()
    train_set = datasets.MNIST(args.data, train=True, download=True, transform=to_tensor)
    test_set = datasets.MNIST(args.data, train=False, download=True, transform=to_tensor)
    train_loader = torch.utils.data.DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    test_loader = torch.utils.data.DataLoader(test_set, batch_size=1000)

    model = Net().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, epochs=args.epochs, steps_per_epoch=len(train_loader)
    )
    for epoch in range(1, args.epochs + 1):
        train(args, model, device, train_loader, optimizer, scheduler, epoch)
        test(model, device, test_loader)

    if args.save_model:
        torch.save(model.state_dict(), "mnist_cnn.pt")
        print("Saved mnist_cnn.pt")


if __name__ == "__main__":
    main()
