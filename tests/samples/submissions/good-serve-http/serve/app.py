"""The smallest server: PUT a picture to /digit."""

import io
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import torch
from PIL import Image

from model import Net

torch.set_num_threads(1)
MODEL = Net()
MODEL.load_state_dict(torch.load("mnist_cnn.pt", map_location="cpu"))
MODEL.eval()


class Handler(BaseHTTPRequestHandler):
    def do_PUT(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        image = np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=np.float32) / 255
        with torch.no_grad():
            digit = int(MODEL(torch.from_numpy(image)[None, None]).argmax())
        body = json.dumps({"result": {"digit": digit}}).encode()
        self.send_response(200 if self.path == "/digit" else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
