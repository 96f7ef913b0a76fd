"""TorchServe's entry: image bytes in, the digit out."""

import io
import os

import numpy as np
import torch
from PIL import Image

from model import Net


class DigitHandler:
    def initialize(self, context):
        """Load the weights once, when a worker starts."""
        folder = context.system_properties["model_dir"]
        weights = torch.load(os.path.join(folder, "mnist_cnn.pt"), map_location="cpu", weights_only=True)
        self.model = Net()
        self.model.load_state_dict(weights)
        self.model.eval()
        self.initialized = True

    def handle(self, requests, context):
        """Return a list with one answer, a digit, for each request."""
        images = torch.stack([self.to_tensor(request.get("data") or request.get("body")) for request in requests])

        # TODO 5: ask the model, without gradients, and return the most likely digit of each image as a list of ints.
        raise NotImplementedError("TODO 5 in serve/handler.py: answer with the digit")

    @staticmethod
    def to_tensor(data):
        """Do what ToTensor did in training: 28x28 grey values from 0 to 1."""
        image = Image.open(io.BytesIO(data)).convert("L").resize((28, 28))
        return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).unsqueeze(0)
