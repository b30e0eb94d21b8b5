"""What every data set promises: fixed splits without leakage, a full card, fresh copies, clear refusals."""

import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from course_lib.data import Dataset, Split, Text, dataset, describe, load, names
from course_lib.data.dataset import package_file, require, split_rows

ALL = [name for name in names() if name not in DOWNLOADS] if (DOWNLOADS := set()) else names()
