"""Make the small model files beside this script, each with the framework that writes it for real.

    python make.py torch|keras      (needs torch and safetensors, or tensorflow)

They are committed, so the tests need neither framework. Seen to run with torch 2.15, safetensors 0.8, tensorflow 2.21.
"""

import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent


def make_torch():
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 2, 3)
            self.norm = torch.nn.BatchNorm2d(2)
            self.fc = torch.nn.Linear(8, 10)

        def forward(self, x):
            return self.fc(self.norm(self.conv(x)).flatten(1))

    Net.__module__, Net.__qualname__ = "model", "Net"
    module = type(sys)("model")
    module.Net = Net
    sys.modules["model"] = module
    net = Net()
    state = net.state_dict()
    torch.save(state, HERE / "state_dict.pt")
    torch.save(state, HERE / "state_dict_legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(net, HERE / "whole_model.pt")
    torch.jit.trace(net.eval(), torch.zeros(1, 1, 4, 4)).save(str(HERE / "torchscript.pt"))
    without_debug(HERE / "torchscript.pt")
    save_file({name: value.contiguous() for name, value in state.items()}, str(HERE / "weights.safetensors"))
    torch.save(
        {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1, "betas": (0.9, 0.99)}}, HERE / "checkpoint.ckpt"
    )
    torch.save(
        {name: value.half() if value.is_floating_point() else value for name, value in state.items()}, HERE / "half.pt"
    )
    bad = {name: value.clone() for name, value in state.items()}
    bad["fc.weight"][2:5] = float("nan")
    bad["conv.bias"][0] = float("inf")
    torch.save(bad, HERE / "nan.pt")
    torch.save({name: torch.zeros_like(value) for name, value in state.items()}, HERE / "zeros.pt")
    torch.save({"bf16": torch.tensor([1.0, float("nan"), 2.0], dtype=torch.bfloat16)}, HERE / "bf16_nan.pt")
    whole = torch.arange(12.0)
    torch.save({"view": whole[2:8].view(2, 3).t(), "whole": whole}, HERE / "views.pt")
    torch.save({}, HERE / "no_tensors.pt")


def without_debug(path):
    """Leave out where the code came from: it names folders of whoever ran this."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if not name.endswith(".debug_pkl")}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)


def make_keras():
    import shutil

    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    model.save(HERE / "model.keras")
    model.save(HERE / "model.h5")
    folder = HERE / "savedmodel"
    shutil.rmtree(folder, ignore_errors=True)
    model.export(folder)
    weights = model.get_weights()
    weights[0][0, 0] = float("nan")
    model.set_weights(weights)
    model.save(HERE / "nan.keras")


if __name__ == "__main__":
    {"torch": make_torch, "keras": make_keras}[sys.argv[1]]()
