"""What only matters among several nodes: probes with the interface of `doctor.probes`, run by the collector.

They judge nothing on one node; `doctor.cluster.rules` judges their facts across all.
"""
