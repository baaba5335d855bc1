"""NVIDIA GPUs of the machine: read through NVML in a child process, and which of them a launch will see."""
