# SPDX-License-Identifier: Apache-2.0
"""What the Python tests share: the FUSE server, programs under the library, memory and files."""
