import os
import sys

import numpy as np
import torch
import triton_python_backend_utils as pb_utils

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from net import Net


class TritonPythonModel:
    def initialize(self, args):
        torch.set_num_threads(1)
        folder = os.path.join(args["model_repository"], args["model_version"])
        self.model = Net()
        self.model.load_state_dict(torch.load(os.path.join(folder, "mnist_cnn.pt"), map_location="cpu"))
        self.model.eval()

    def execute(self, requests):
        responses = []
        for request in requests:
            image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
            with torch.no_grad():
                scores = self.model(torch.from_numpy(np.array(image))).numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("scores", scores)]))
        return responses
