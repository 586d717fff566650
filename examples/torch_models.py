"""The models in PyTorch: python examples/torch_models.py EXPORT.safetensors FEATURES.feat.npz   (pip install torch numpy)

EXPORT is what `synth export RUN EXPORT.safetensors` wrote; `load` makes the module of it, ready to use or to train on. Tensors are
[batch, frames, channels]; log-mels and spectra are natural logarithms of power.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

LATENT_FLOOR, BIN_FLOOR = 1e-4, 0.1  # least standard deviations
SLOPE = 0.1  # of every leaky ReLU


class ConvVae(nn.Module):
    def __init__(self, segment_frames, n_mels, channels, hidden, latents):
        super().__init__()
        a, b, c = channels
        both = dict(kernel_size=(4, 4), stride=(2, 2), padding=1)
        bands = dict(kernel_size=(3, 4), stride=(1, 2), padding=1)
        self.grid = (c, segment_frames // 4, n_mels // 8)
        flat = int(np.prod(self.grid))
        self.encoder = nn.ModuleList([nn.Conv2d(1, a, **both), nn.Conv2d(a, b, **both), nn.Conv2d(b, c, **bands)])
        self.encoder_hidden = nn.Linear(flat, hidden)
        self.mean, self.raw_scale = nn.Linear(hidden, latents), nn.Linear(hidden, latents)
        self.decoder_hidden, self.decoder_grid = nn.Linear(latents, hidden), nn.Linear(hidden, flat)
        mirror = [nn.ConvTranspose2d(c, b, **bands), nn.ConvTranspose2d(b, a, **both), nn.ConvTranspose2d(a, 2, **both)]
        self.decoder = nn.ModuleList(mirror)

    def encode(self, x):
        """[batch, frames, mels] to mean and standard deviation [batch, latents]."""
        h = x.unsqueeze(1)
        for layer in self.encoder:
            h = F.leaky_relu(layer(h), SLOPE)
        h = F.leaky_relu(self.encoder_hidden(h.flatten(1)), SLOPE)
        return self.mean(h), F.softplus(self.raw_scale(h)) + LATENT_FLOOR

    def decode(self, z):
        """[batch, latents] to mean and standard deviation [batch, frames, mels]."""
        h = F.leaky_relu(self.decoder_hidden(z), SLOPE)
        h = F.leaky_relu(self.decoder_grid(h), SLOPE).unflatten(1, self.grid)
        for layer in self.decoder[:-1]:
            h = F.leaky_relu(layer(h), SLOPE)
        mean, raw = self.decoder[-1](h).unbind(1)
        return mean, F.softplus(raw) + BIN_FLOOR


class LstmVae(nn.Module):
    def __init__(self, segment_frames, n_mels, cells, latents, scale):
        super().__init__()
        self.frames, self.scale = segment_frames, scale
        self.encoder = nn.LSTM(n_mels, cells, batch_first=True)
        self.mean, self.raw_scale = nn.Linear(cells, latents), nn.Linear(cells, latents)
        self.decoder = nn.LSTM(latents, cells, batch_first=True)
        self.bin_mean, self.bin_raw_scale = nn.Linear(cells, n_mels), nn.Linear(cells, n_mels)

    def deviation(self, raw, floor):
        return F.softplus(raw) + floor if self.scale == "softplus" else raw.clamp(-20, 20).exp()

    def encode(self, x):
        h = self.encoder(x)[0][:, -1]
        return self.mean(h), self.deviation(self.raw_scale(h), LATENT_FLOOR)

    def decode(self, z):
        h = self.decoder(z.unsqueeze(1).expand(-1, self.frames, -1))[0]
        return self.bin_mean(h), self.deviation(self.bin_raw_scale(h), BIN_FLOOR)


class Highway(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.transform, self.gate = nn.Linear(channels, channels), nn.Linear(channels, channels)

    def forward(self, x):
        return x + torch.sigmoid(self.gate(x)) * (F.relu(self.transform(x)) - x)


class Cbhg(nn.Module):
    """Of utterances of one length: there is no padding here."""

    def __init__(self, n_mels, bins, bank_size, channels, highway_layers, gru_cells, small_output=False):
        super().__init__()
        conv = lambda inputs, outputs, width: nn.Conv1d(inputs, outputs, width, padding="same", bias=False)
        norm = lambda size: nn.BatchNorm1d(size, eps=1e-3, momentum=0.01)
        self.bank = nn.ModuleList([conv(n_mels, channels, width + 1) for width in range(bank_size)])
        self.bank_norm = norm(bank_size * channels)
        self.project_down, self.down_norm = conv(bank_size * channels, channels, 3), norm(channels)
        self.project_back, self.back_norm = conv(channels, n_mels, 3), norm(n_mels)
        self.widen = nn.Linear(n_mels, channels)
        self.highway = nn.ModuleList([Highway(channels) for _ in range(highway_layers)])
        self.gru = nn.GRU(channels, gru_cells, batch_first=True, bidirectional=True)
        self.output = nn.Linear(2 * gru_cells, bins)

    def forward(self, x):
        """[batch, frames, mels] to [batch, frames, bins]."""
        h = x.transpose(1, 2)  # [batch, mels, frames]
        h = F.relu(self.bank_norm(torch.cat([layer(h) for layer in self.bank], 1)))
        h = F.max_pool1d(F.pad(h, (0, 1)), 2, 1)  # of each frame and the next
        h = F.relu(self.down_norm(self.project_down(h)))
        h = self.widen(self.back_norm(self.project_back(h)).transpose(1, 2) + x)
        for layer in self.highway:
            h = layer(h)
        return self.output(self.gru(h)[0])


MODULES = {"conv-vae": ConvVae, "lstm-vae": LstmVae, "cbhg": Cbhg}


def load(path):
    """The module of an export, for inference, and the description of its run. (`safetensors.torch` reads the file as well.)"""
    data = Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    run = json.loads(header.pop("__metadata__")["run"])
    part = lambda entry: np.frombuffer(body[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"])
    sizes = dict(run["config"]["model"])
    model = MODULES[sizes.pop("architecture")](**sizes)
    model.load_state_dict({name: torch.from_numpy(part(entry).copy()) for name, entry in header.items()})
    return model.eval(), run


def standardize(logmel, run):
    """What a network is given; one of the inverter's workshop recipe takes log-mels as they are."""
    if run["config"]["objective"].get("recipe") == "workshop":
        return logmel
    return (logmel - torch.tensor(run["standardizer"]["mean"])) / run["standardizer"]["std"]


def segments(logmel, frames):
    """Segments that begin every half segment, the last one filled by its last frame: [segments, frames, mels]."""
    hop, count = frames // 2, -(-max(len(logmel) - frames, 0) // (frames // 2)) + 1
    index = hop * torch.arange(count)[:, None] + torch.arange(frames)
    return logmel[index.clamp(max=len(logmel) - 1)]


def cross_fade(parts, frames):
    """The spectrogram [frames, mels] that such segments make, weighted by a raised cosine."""
    length = parts.shape[1]
    weight = torch.sin(torch.pi * (torch.arange(length) + 0.5) / length)[:, None] ** 2
    total, weights = torch.zeros(frames + length, parts.shape[2]), torch.zeros(frames + length, 1)
    for number, part in enumerate(parts):
        start = number * (length // 2)
        total[start : start + length] += weight * part
        weights[start : start + length] += weight
    return total[:frames] / weights[:frames]


@torch.no_grad()
def predict(model, run, logmel):
    """What `synth predict` writes, but the inverter's logspec: the mel inverse that its network corrects is not made here."""
    x = standardize(logmel, run)
    if isinstance(model, Cbhg):
        return {"network": model(x[None])[0]}
    mean, scale = model.encode(segments(x, run["config"]["model"]["segment_frames"]))
    decoded = cross_fade(model.decode(mean)[0], len(x))
    decoded = decoded * run["standardizer"]["std"] + torch.tensor(run["standardizer"]["mean"])
    return {"mean": mean, "scale": scale, "decoded": decoded}


if __name__ == "__main__":
    model, run = load(sys.argv[1])
    logmel = torch.from_numpy(np.load(sys.argv[2])["logmel"])
    print(type(model).__name__, sum(p.numel() for p in model.parameters()), "parameters, step", run["step"])
    for name, tensor in predict(model, run, logmel).items():
        print(f"  {name:8} {tuple(tensor.shape)}  {tensor.min():.3f} to {tensor.max():.3f}")
