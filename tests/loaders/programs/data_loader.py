# SPDX-License-Identifier: Apache-2.0
"""data_loader.py FILE: a DataLoader whose forked workers read an inherited tensor row by row."""

import sys

import torch
from common import checksum, emit
from safetensors.torch import load_file
from torch.utils.data import DataLoader, TensorDataset

tensors = load_file(sys.argv[1])
name = sorted(tensors)[0]
rows = tensors[name].reshape(-1, 1024)
loader = DataLoader(TensorDataset(rows), batch_size=64, num_workers=2,
                    multiprocessing_context="fork")
batches = torch.cat([batch[0] for batch in loader])
emit(sums=[checksum(rows), checksum(batches)])
