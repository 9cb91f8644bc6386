# SPDX-License-Identifier: Apache-2.0
"""The benchmark harness: scenarios and contestants as tables, one process for each cell."""
