import io
import os

import numpy as np
import torch
from PIL import Image

from model import Net


class DigitHandler:
    def initialize(self, context):
        torch.set_num_threads(1)
        folder = context.system_properties["model_dir"]
        weights = torch.load(os.path.join(folder, "good.pt"), map_location="cpu", weights_only=True)
        self.model = Net()
        self.model.load_state_dict(weights)
        self.model.eval()
        self.initialized = True

    def handle(self, requests, context):
        images = torch.stack([self.to_tensor(request.get("data") or request.get("body")) for request in requests])
        with torch.no_grad():
            return self.model(images).argmax(dim=1).tolist()

    def to_tensor(self, data):
        image = Image.open(io.BytesIO(data)).convert("L").resize((28, 28))
        return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).unsqueeze(0)
